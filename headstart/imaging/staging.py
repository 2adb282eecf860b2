"""Staging: pictures of several sizes side by side in one buffer, with all that a GPU needs to resize them.

One copy then brings a batch to the GPU. No torch.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.imaging.decode import Picture
from headstart.imaging.resampling import Coefficients
from headstart.imaging.transform import Transform

# In squares of the pixels that the network sees: the space for each picture in a buffer, about 500 x 500 pixels at 224,
# and the largest picture that a GPU resizes, about 1000 x 1000, which needs up to 100 MB there meanwhile. Larger ones
# take their time in decoding anyway.
_SPACE = 5
_LARGEST = 20
_ALIGNMENT = 16  # of a picture in the buffer, in bytes


@dataclass(frozen=True)
class StagedPicture:
    """Where a picture lies in its buffer: the coefficients of its columns, those of its rows, its pixels.

    Attributes:
        start: First byte.
        num_coefficients: Number for each new column, and for each new row; empty if the pixels are those that the
            network sees.
        height: Height in pixels.
        width: Width in pixels.
    """

    start: int
    num_coefficients: tuple[int, ...]
    height: int
    width: int


@dataclass(frozen=True)
class StagedPictures:
    """Pictures that an engine shall resize.

    Attributes:
        data: uint8 (capacity,), the buffer.
        num_bytes: Bytes of the buffer that are used.
        pictures: Where each picture lies.
        px: Side of the resized pictures in pixels.
    """

    data: NDArray[np.uint8]
    num_bytes: int
    pictures: Sequence[StagedPicture]
    px: int

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, which: slice) -> "StagedPictures":
        return replace(self, pictures=self.pictures[which])


Pictures = NDArray[np.uint8] | StagedPictures


def staging_bytes(px: int) -> int:
    """Return the space in a buffer for each picture, in bytes, for a network that sees `px` x `px` pixels."""
    return _SPACE * _square_bytes(px)


class StagingBuffer:
    """A buffer for the pictures of a batch. Thread-safe.

    Pillow resizes a picture that is too large, or for which the others have left no space. The pixels are the same.

    Args:
        data: uint8 (capacity,), at least the bytes of the resized pictures.
        size: Number of pictures.
        transform: How they are resized.
    """

    def __init__(self, data: NDArray[np.uint8], size: int, transform: Transform) -> None:
        self._data, self._size, self._transform = data, size, transform
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all pictures."""
        self._pictures: list[StagedPicture | None] = [None] * self._size
        self._num_left, self._used = self._size, 0

    def put(self, place: int, picture: Picture) -> None:
        """Put a picture at a place from 0 to `size` - 1. Each place gets one."""
        image, start = picture.image, None
        coefficients: tuple[Coefficients, ...] = ()
        if image.width * image.height <= _LARGEST * self._transform.crop_px**2:
            coefficients = self._transform.coefficients(image.size, picture.extent)
            start = self._reserve(sum(each.nbytes for each in coefficients) + 3 * image.width * image.height)
        if start is None:
            coefficients, pixels = (), self._transform.pixels(image, picture.extent)
            start = self._reserve(pixels.nbytes)
            assert start is not None, "a picture that is resized fits always"
        else:
            pixels = np.asarray(image)
        self._pictures[place] = StagedPicture(start, tuple(each.shape[2] for each in coefficients), *pixels.shape[:2])
        parts: tuple[NDArray[Any], ...] = (*coefficients, pixels)
        for part in parts:
            self._data[start : start + part.nbytes] = part.reshape(-1).view(np.uint8)
            start += part.nbytes

    def pictures(self, num: int) -> StagedPictures:
        """Return the pictures at the first `num` places."""
        pictures = [picture for picture in self._pictures[:num] if picture is not None]
        return StagedPictures(self._data, self._used, pictures, self._transform.crop_px)

    def _reserve(self, num_bytes: int) -> int | None:
        """Return where a picture may begin; None if each of those that are still to come could not be a square."""
        with self._lock:
            end = self._used + _aligned(num_bytes)
            if end + (self._num_left - 1) * _square_bytes(self._transform.crop_px) > len(self._data):
                return None
            start, self._used = self._used, end
            self._num_left -= 1
            return start


def _square_bytes(px: int) -> int:
    return _aligned(3 * px * px)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
