"""Kinds of images that `Model.predict` accepts (paths, bytes, Pillow images, arrays), their names and batches."""

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.base.errors import DataError
from headstart.predict.inputs import LoadedImage

# Limit on the bytes of the archive members of one batch: several batches wait in memory at the same time.
_BATCH_BYTES = 2**26


class ImageStatus(NamedTuple):
    """The outcome of reading one image; the fields are those of `Prediction`."""

    name: str
    status: str
    reason: str


@dataclass(frozen=True)
class DecodedImage:
    """An image that was read before.

    Attributes:
        status: The outcome of reading it.
        views: Its views, uint8 (views, px, px, 3); None if it is quarantined.
    """

    status: ImageStatus
    views: NDArray[np.uint8] | None


ImageLike = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | LoadedImage | DecodedImage
ReadImages = tuple[list[NDArray[np.uint8]], list[ImageStatus]]  # what `ImageReader.read` returns


def name_of(image: ImageLike, position: int) -> str:
    """Return an image's path as given, or its position, such as `#0`, if the image has no path."""
    if isinstance(image, LoadedImage):
        return image.name
    if isinstance(image, DecodedImage):
        return image.status.name
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"#{position}"


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


def check_all_read(statuses: Iterable[ImageStatus]) -> None:
    """Raise if an image could not be read.

    Raises:
        DataError: An image is quarantined. The message names the first one.
    """
    for name, status, reason in statuses:
        if status == "quarantined":
            raise DataError(f"{name}: {reason}")
