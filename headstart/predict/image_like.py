"""Kinds of images that `Model.predict` accepts (paths, bytes, Pillow images, arrays), and their pixels."""

import os
from collections.abc import Generator, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.base.errors import DataError
from headstart.imaging.decode import ImageError
from headstart.imaging.reader import Reader
from headstart.predict.image_file import ImageReadError, read_file
from headstart.predict.inputs import LoadedImage

ImageLike = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | LoadedImage
# Limit on the bytes of the archive members of one batch: several batches wait in memory at the same time.
_BATCH_BYTES = 2**26


class ImageStatus(NamedTuple):
    """The outcome of reading one image; the fields are those of `Prediction`."""

    name: str
    status: str
    reason: str


ReadImages = tuple[list[NDArray[np.uint8]], list[ImageStatus]]  # what `read_images` returns


def name_of(image: ImageLike, position: int) -> str:
    """Return an image's path as given, or its position, such as `#0`, if the image has no path."""
    if isinstance(image, LoadedImage):
        return image.name
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"#{position}"


def read_images(reader: Reader, images: Sequence[tuple[ImageLike, str]], max_pixels: int) -> ReadImages:
    """Return the pixels of the images that can be decoded, and the status of every image.

    Args:
        reader: Reader with the transform and the views of the bundle.
        images: Images with their names.
        max_pixels: Largest width x height of a file that is decoded.

    Returns:
        The views, uint8 (views, px, px, 3), of each image that is not quarantined, and one status for each image.

    Raises:
        DataError: An object is not an image of an accepted kind.
    """
    pixels, statuses = [], []
    for image, name in images:
        try:
            views, repairs = _read_views(reader, image, name, max_pixels)
        except (ImageError, ImageReadError) as error:
            statuses.append(ImageStatus(name, "quarantined", str(error)))
            continue
        pixels.append(views)
        statuses.append(ImageStatus(name, "repaired" if repairs else "ok", ", ".join(repairs)))
    return pixels, statuses


def in_batches(images: Iterable[ImageLike], num: int) -> Generator[list[tuple[ImageLike, str]]]:
    """Give images with their names in lists of `num`, or of fewer where their bytes are many.

    Raises:
        DataError: `images` is one image. Iterating over it would give letters or rows of pixels.
    """
    if isinstance(images, str | os.PathLike | bytes) or (isinstance(images, np.ndarray) and images.ndim in (2, 3)):
        raise DataError(f"found one {type(images).__name__} where several images are expected; pass a list: [image]")
    batch: list[tuple[ImageLike, str]] = []
    num_bytes = 0
    for position, image in enumerate(images):
        batch.append((image, name_of(image, position)))
        num_bytes += len(image.data or b"") if isinstance(image, LoadedImage) else 0
        if len(batch) == num or num_bytes >= _BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def merged(read: Iterable[ReadImages], num: int) -> Generator[ReadImages]:
    """Give what was read for one image each for `num` images together."""
    rest = iter(read)
    while parts := list(islice(rest, num)):
        yield [each for pixels, _ in parts for each in pixels], [each for _, statuses in parts for each in statuses]


def _read_views(
    reader: Reader, image: ImageLike, name: str, max_pixels: int
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if isinstance(image, Image.Image):
        return reader.views_of_image(image)
    if isinstance(image, np.ndarray):
        is_picture = image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
        if not is_picture or not image.size:
            raise DataError(
                f"{name}: found an array of {image.dtype} {image.shape}; expected uint8, (H, W, 3) RGB or (H, W) gray"
            )
        return reader.views_of_image(Image.fromarray(image))
    if isinstance(image, LoadedImage):
        data = image.read()
    elif isinstance(image, bytes):
        data = image
    elif isinstance(image, str | os.PathLike):
        data = read_file(Path(image))
    else:
        raise DataError(
            f"{name}: found an object of type {type(image).__name__}; expected a path, bytes, a Pillow image or an "
            "array"
        )
    return reader.views_of(data, max_pixels)
