"""The reader: from image files to the verified pixels of their views, with a limit on the memory for decoding."""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.base.errors import DataError
from headstart.imaging.clock import Clock, peak_memory_bytes
from headstart.imaging.decode import ImageError, decode, measure, upright_rgb
from headstart.imaging.transform import Transform, View
from headstart.sources.folder import Folder
from headstart.tables.index import IndexRow

# Largest memory per pixel while a picture is decoded: 12.1 bytes measured for RGBA and palette, less for others, and up
# to 4 bytes for the file itself. A resized pixel takes 4 bytes in Pillow and 3 in the array.
_BYTES_PER_PIXEL = 16
_BYTES_PER_RESIZED_PIXEL = 7


class MemoryBudget:
    """Limits the memory that several threads hold together. Thread-safe.

    Args:
        num_bytes: The limit, in bytes. A thread that needs more than this waits until no other thread holds memory.
    """

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes, self._held = num_bytes, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, num_bytes: int) -> Iterator[None]:
        """Wait until the limit leaves `num_bytes` free, and hold them during the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + num_bytes <= self._num_bytes)
            self._held += num_bytes
        try:
            yield
        finally:
            with self._changed:
                self._held -= num_bytes
                self._changed.notify_all()


def memory_for_decoding(num_bytes: int, device: str) -> MemoryBudget:
    """Return the part of `runtime.memory` that is left for decoding.

    On a CPU the libraries count. On a GPU they do not: CUDA's take more than the default of 1 GiB, and then images
    would be decoded one at a time.

    Args:
        num_bytes: `runtime.memory`.
        device: Device of the run, such as `cpu` or `cuda:0`.
    """
    return MemoryBudget(num_bytes - peak_memory_bytes() if device == "cpu" else num_bytes)


class Reader:
    """Reads the images of one data set and checks that they are the indexed ones. Thread-safe.

    Args:
        source: Where the images of the data set are.
        transform: Transform of every view.
        views: Views of each image, at least one.
        budget: Limit of the memory for decoding.
        clock: Clock to which the seconds of reading and decoding are added.
    """

    def __init__(
        self, source: Folder, transform: Transform, views: Sequence[View], budget: MemoryBudget, clock: Clock
    ) -> None:
        self._source, self._transform, self._views = source, transform, views
        self._budget, self._clock = budget, clock

    def missing(self, rows: Sequence[IndexRow]) -> list[IndexRow]:
        """Return the rows whose file is missing."""
        return [row for row in rows if not self._source.has(row.path)]

    def check_present(self, rows: Sequence[IndexRow]) -> None:
        """Raise if the file of any row is missing.

        Raises:
            DataError: Files are missing. The message counts them and names the first.
        """
        missing = self.missing(rows)
        if missing:
            raise DataError(
                f"{self._source}: {len(missing)} of the {len(rows)} images that are needed are missing, the "
                f"first {missing[0].path}, but data/index.csv lists them. Copy the images here, or run: dvc repro"
            )

    def pixels(self, row: IndexRow) -> NDArray[np.uint8]:
        """Return the views of an indexed image, uint8 (views, px, px, 3).

        Raises:
            DataError: The file cannot be read or decoded, or has changed since it was indexed.
        """
        with self.picture(row) as image:
            return self._views_of(image)

    @contextmanager
    def picture(self, row: IndexRow) -> Iterator[Image.Image]:
        """Give an indexed image as upright RGB. The block holds memory of the budget, so it may have to wait first.

        Raises:
            DataError: The file cannot be read or decoded, or has changed since it was indexed.
        """
        path = f"{self._source}/{row.path}"
        with self._budget.hold(self._cost(row.width, row.height)):
            try:
                with self._clock("read"):
                    data = self._source.read(row.path)
                    found = hashlib.sha256(data).hexdigest()
            except OSError as error:
                raise DataError(
                    f"{path}: cannot be read ({error.strerror}), but data/index.csv lists it. Run: dvc repro"
                ) from error
            if found != row.digest:
                raise DataError(
                    f"{path}: has changed since it was indexed: sha256 is {found}; data/index.csv has {row.digest}. "
                    "Run: dvc repro"
                )
            with self._clock("decode"):
                try:
                    image = decode(data, max_pixels=row.width * row.height).image
                except ImageError as error:
                    raise DataError(
                        f"{path}: decoded when it was indexed, but not now ({error}). Run: dvc repro -f index"
                    ) from error
                yield image

    def views_of(self, data: bytes, max_pixels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Return the views of an image file, uint8 (views, px, px, 3), and its repairs (see `Picture`).

        Args:
            data: Bytes of the file.
            max_pixels: Largest width x height that is decoded.

        Raises:
            ImageError: The file cannot be decoded.
        """
        with self._budget.hold(self._cost(*measure(data, max_pixels))), self._clock("decode"):
            picture = decode(data, max_pixels)
            return self._views_of(picture.image), picture.repairs

    def views_of_image(self, image: Image.Image) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Return the views of a picture in memory, uint8 (views, px, px, 3), and its repairs (see `Picture`).

        Raises:
            ImageError: As for `upright_rgb`.
        """
        picture = upright_rgb(image)
        return self._views_of(picture.image), picture.repairs

    def _views_of(self, image: Image.Image) -> NDArray[np.uint8]:
        views = [view.pixels(image, self._transform) for view in self._views]
        return views[0][None] if len(views) == 1 else np.stack(views)

    def _cost(self, width: int, height: int) -> int:
        resized_width, resized_height = self._transform.resized(width, height)
        columns = max(resized_width * height, resized_width * resized_height)
        return width * height * _BYTES_PER_PIXEL + columns * _BYTES_PER_RESIZED_PIXEL
