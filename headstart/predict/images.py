"""Images: what may be given to a model, and what becomes of it."""

import os
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.base.errors import DataError
from headstart.imaging.reader import Reader
from headstart.predict.inputs import Loaded, read_file

ImageLike = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | Loaded
# Members of archives wait in memory, some batches of them. A photo has a few of it.
_BATCH_BYTES = 2**26


def name_of(image: ImageLike, number: int) -> str:
    """Return an image's path as it was given; of images without one their position, as `#0`."""
    if isinstance(image, Loaded):
        return image.name
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"#{number}"


def views_of(reader: Reader, image: ImageLike, name: str, max_pixels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return an image's views, uint8 (views, px, px, 3), and what was repaired.

    Args:
        reader: Of the spec.
        image: Any of the kinds.
        name: For errors.
        max_pixels: Largest width x height of a file that is decoded.

    Raises:
        DataError: Something that is no image.
        ImageError, SourceError: An image that gives no picture.
    """
    if isinstance(image, Image.Image):
        return reader.views_of_image(image)
    if isinstance(image, np.ndarray):
        is_picture = image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
        if not is_picture or not image.size:
            raise DataError(
                f"{name}: an array of {image.dtype} {image.shape}; expected uint8, (H, W, 3) RGB or (H, W) gray"
            )
        return reader.views_of_image(Image.fromarray(image))
    if isinstance(image, Loaded):
        data = image.read()
    elif isinstance(image, bytes):
        data = image
    elif isinstance(image, str | os.PathLike):
        data = read_file(Path(image))
    else:
        raise DataError(f"{name}: a {type(image).__name__}; expected a path, bytes, a Pillow image or an array")
    return reader.views_of(data, max_pixels)


def batched(images: Iterable[ImageLike], num: int) -> Generator[list[tuple[ImageLike, str]]]:
    """Give images with their names, so many together, or fewer where their bytes are many.

    Raises:
        DataError: One image in place of many: going through it would give letters, or rows of pixels.
    """
    if isinstance(images, str | os.PathLike | bytes) or (isinstance(images, np.ndarray) and images.ndim in (2, 3)):
        raise DataError(f"found one {type(images).__name__} where images are expected; give a list: [image]")
    part: list[tuple[ImageLike, str]] = []
    num_bytes = 0
    for number, image in enumerate(images):
        part.append((image, name_of(image, number)))
        num_bytes += len(image.data or b"") if isinstance(image, Loaded) else 0
        if len(part) == num or num_bytes >= _BATCH_BYTES:
            yield part
            part, num_bytes = [], 0
    if part:
        yield part
