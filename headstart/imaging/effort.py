"""Effort: whether the structure of an image file bounds the time that decoding takes.

A file may hide hours of work: thousands of scans of a JPEG or of a JPEG in a TIFF, a million pieces of EXIF that Pillow
joins one by one, run lengths of a bitmap that Pillow reads in Python. Here is no list of all such tricks, which nobody
has. Files that are surely free of them are decoded by threads, all others by helpers, which die at the end of their
time. Ordinary photos are of the first kind.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from headstart.base.helpers import HelperDiedError, Helpers, TooSlowError
from headstart.imaging.decode import ImageError
from headstart.imaging.formats import format_of

Result = TypeVar("Result")
# Pixels of a baseline JPEG that take about as long as the file; a second or two on a slow core.
MOST_EFFORT = 2**27
# A photo has about ten segments; a large colour profile takes some more. Pillow goes through bytes between segments one
# by one. A PNG has a chunk for every 8 KiB or so.
_MOST_SEGMENTS, _MOST_BETWEEN, _MOST_CHUNKS = 200, 2**16, 20_000
# How many times as long a pixel takes as one of a scan of a JPEG: 5 ns for those, up to 60 ns for an interlaced PNG.
_SCANS_PER_PIXEL = 8
_MARKER = rb"\xff[^\x00\xff\xd0-\xd7]"  # the others belong to the data of a scan
_BASELINE, _EXTENDED, _PROGRESSIVE, _START_OF_SCAN, _END_OF_IMAGE = 0xC0, 0xC1, 0xC2, 0xDA, 0xD9
# They have no length: what seems to be one could hide a thousand scans. No camera writes them inside a file.
_NO_LENGTH = b"\x01\xd8"
_OTHER_FRAMES = b"\xc3\xc5\xc6\xc7\xc9\xca\xcb\xcd\xce\xcf"  # lossless, arithmetic and so on


class UndecidedError(ImageError):
    """Nobody knows whether an image can be decoded: decoding took too long, or the decoder died."""


@dataclass(frozen=True)
class Limits:
    """Limits on an image file from anybody.

    Attributes:
        max_pixels: Largest width x height that is decoded.
        max_seconds: Largest number of seconds for decoding in a helper.
        most_effort: Largest effort of a file that is decoded without a helper (see `is_plain`).
        end: Value of `time.monotonic` at which these seconds end; None if they have not begun.
    """

    max_pixels: int
    max_seconds: float
    most_effort: int = MOST_EFFORT
    end: float | None = None

    def begun(self) -> "Limits":
        """Return the limits with an end: `max_seconds` from now, unless they have begun before."""
        return self if self.end is not None else replace(self, end=time.monotonic() + self.max_seconds)


def call_helper(helpers: Helpers, limits: Limits, function: Callable[..., Result], *args: object) -> Result:
    """Return `function(*args)` from a helper, which is stopped if it takes too long.

    Args:
        helpers: Helpers.
        limits: Limits on the image file.
        function: Function of a module that decodes the file. It raises `ImageError` for a bad one.
        args: Arguments that can be pickled.

    Raises:
        ImageError: As the function.
        UndecidedError: It took longer, or the helper died. Nothing of it runs on.
    """
    end = limits.begun().end
    assert end is not None, "they have begun"
    try:
        return helpers.call(function, *args, seconds=end - time.monotonic())
    except TooSlowError as error:
        raise UndecidedError(f"decoding takes longer than {limits.max_seconds:g} seconds") from error
    except HelperDiedError as error:
        raise UndecidedError(f"the decoder died ({error}): a hostile file, or too little memory") from error


def is_plain(data: bytes, most_effort: int) -> bool:
    """Return whether decoding a file surely ends soon. It looks at the structure of JPEG, PNG, WebP and BMP only.

    Args:
        data: Bytes of the file, of any kind.
        most_effort: Largest effort, in pixels of a baseline JPEG that take as long.
    """
    name = format_of(data)
    if name is None:  # it is refused at once
        return True
    effort = _EFFORTS[name](data) if name in _EFFORTS else None
    return effort is not None and effort <= most_effort


def _effort_of_jpeg(data: bytes) -> int | None:
    """Return pixels times scans; None for unusual files."""
    position, num_segments, num_between, num_scans, pixels, components = 2, 0, 0, 0, 0, 0
    is_progressive = False
    marker = re.compile(_MARKER)
    while found := marker.search(data, position):
        num_segments += 1
        num_between += 0 if num_scans else found.start() - position
        position, kind = found.end(), found[0][1]
        if kind in _OTHER_FRAMES + _NO_LENGTH or num_segments > _MOST_SEGMENTS or num_between > _MOST_BETWEEN:
            return None
        if kind == _END_OF_IMAGE:
            break
        if kind in (_BASELINE, _EXTENDED, _PROGRESSIVE):
            if pixels:  # two frames
                return None
            pixels = _int(data, position + 3, 2) * _int(data, position + 5, 2)
            components, is_progressive = _int(data, position + 7, 1), kind == _PROGRESSIVE
        elif kind == _START_OF_SCAN:
            num_scans += 1
            if not is_progressive and _int(data, position + 2, 1) == components:
                break  # it has everything, and nothing after it is read
        position += _int(data, position, 2)
    return pixels * num_scans


def _effort_of_png(data: bytes) -> int | None:
    position, num_chunks = 8, 0
    while position < len(data):
        num_chunks += 1
        if num_chunks > _MOST_CHUNKS:
            return None
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big") * _SCANS_PER_PIXEL


def _effort_of_webp(data: bytes) -> int | None:
    """Return the effort of a still picture; None for others."""
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X" and len(data) > 20 and not data[20] & 2:  # this bit says that it moves
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    else:
        return None
    return width * height * _SCANS_PER_PIXEL


def _effort_of_bmp(data: bytes) -> int | None:
    """Return the effort of a bitmap that is not compressed; None for others."""
    if int.from_bytes(data[14:18], "little") < 40 or int.from_bytes(data[30:34], "little") not in (0, 3):
        return None
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    return abs(width * height) * _SCANS_PER_PIXEL


def _int(data: bytes, position: int, num_bytes: int) -> int:
    return int.from_bytes(data[position : position + num_bytes], "big")


# Each gives the effort of a file, at least 0; None if the structure of the file does not bound it.
_EFFORTS: Mapping[str, Callable[[bytes], int | None]] = {
    "BMP": _effort_of_bmp,
    "JPEG": _effort_of_jpeg,
    "PNG": _effort_of_png,
    "WEBP": _effort_of_webp,
}
