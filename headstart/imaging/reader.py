"""The reader: from image files to the verified pixels of their views, with a limit on the memory for decoding."""

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.base.errors import DataError
from headstart.base.helpers import Helpers
from headstart.imaging.clock import Clock, peak_memory_bytes
from headstart.imaging.decode import Header, ImageError, Picture, decode, read_header, upright_rgb
from headstart.imaging.effort import Limits, call_helper, is_plain
from headstart.imaging.scale import reduced_size
from headstart.imaging.staging import StagingBuffer
from headstart.imaging.transform import Transform, View
from headstart.sources.folder import Folder
from headstart.tables.index import IndexRow

# A resized pixel takes 4 bytes in Pillow and 3 in the array.
_BYTES_PER_RESIZED_PIXEL = 7
# Usual size of a file at most, and the part of the memory for files that were read and wait.
_FILE_BYTES_PER_PIXEL = {"JPEG": 1, "WEBP": 1}
_FILE_BYTES_PER_OTHER_PIXEL = 3
_FOR_FILES = 0.25


class MemoryBudget:
    """Limits the memory that several threads hold together. Thread-safe.

    Args:
        num_bytes: The limit, in bytes. A thread that needs more than this waits until no other thread holds memory.

    Attributes:
        num_bytes: The limit.
    """

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes, self._held = num_bytes, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, num_bytes: int) -> Iterator[None]:
        """Wait until the limit leaves `num_bytes` free, and hold them during the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + num_bytes <= self.num_bytes)
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
        min_side_px: Pixels that the shorter side of a picture keeps for the views (see `scale.reduction`); None to
            decode pictures whole.

    Attributes:
        px: Side of the views in pixels.
        transform: Transform of every view.
    """

    def __init__(
        self,
        source: Folder,
        transform: Transform,
        views: Sequence[View],
        budget: MemoryBudget,
        clock: Clock,
        *,
        min_side_px: int | None,
    ) -> None:
        self._source, self.transform, self._views = source, transform, views
        self.px = transform.crop_px
        self._clock, self._min_side_px = clock, min_side_px
        # A thread holds memory for its file and then memory for decoding it. With one budget for both, threads that
        # hold files could wait for each other.
        self._for_files = MemoryBudget(int(budget.num_bytes * _FOR_FILES))
        self._for_decoding = MemoryBudget(budget.num_bytes - self._for_files.num_bytes)

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
        with self.picture(row, self._min_side_px) as picture:
            return self.views_of_picture(picture)

    def stage(self, row: IndexRow, buffer: StagingBuffer, place: int) -> None:
        """Put an indexed image into a buffer. Its only view must be the centre crop.

        Raises:
            DataError: As for `pixels`.
        """
        with self.picture(row, self._min_side_px) as picture:
            buffer.put(place, picture)

    @contextmanager
    def picture(self, row: IndexRow, min_side_px: int | None) -> Iterator[Picture]:
        """Give an indexed image as upright RGB. The block holds memory of the budget, so it may have to wait first.

        Args:
            row: Row of the image.
            min_side_px: Pixels that the shorter side keeps if the picture is reduced (see `scale.reduction`); None for
                the whole picture.

        Raises:
            DataError: The file cannot be read or decoded, or has changed since it was indexed.
        """
        path = f"{self._source}/{row.path}"
        max_pixels = row.width * row.height
        with self._for_files.hold(_file_bytes(row)):
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
                    "Run: dvc repro -f -s index && dvc repro"
                )
            with ExitStack() as stack:
                try:
                    num_bytes = self._cost(read_header(data, max_pixels), min_side_px)
                    stack.enter_context(self._for_decoding.hold(num_bytes))
                    stack.enter_context(self._clock("decode"))
                    picture = decode(data, max_pixels, min_side_px)
                except ImageError as error:
                    raise DataError(
                        f"{path}: decoded when it was indexed, but not now ({error}). Run: dvc repro -f index"
                    ) from error
                yield picture

    def views_of(self, data: bytes, max_pixels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Return the views of an image file, uint8 (views, px, px, 3), and its repairs (see `Picture`).

        Args:
            data: Bytes of the file.
            max_pixels: Largest width x height that is decoded.

        Raises:
            ImageError: The file cannot be decoded.
        """
        num_bytes = self._cost(read_header(data, max_pixels), self._min_side_px)
        with self._for_decoding.hold(num_bytes), self._clock("decode"):
            return _views_of(data, max_pixels, self._min_side_px, self.transform, self._views)

    def views_within(self, data: bytes, limits: Limits, helpers: Helpers) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Return what `views_of` returns, for a file from anybody: one that may take long is decoded by a helper.

        Args:
            data: Bytes of the file.
            limits: Limits on the file.
            helpers: Helpers, which are stopped if decoding takes too long.

        Raises:
            ImageError: The file cannot be decoded within the limits.
        """
        if is_plain(data, limits.most_effort):
            return self.views_of(data, limits.max_pixels)
        limits = limits.begun()
        header = call_helper(helpers, limits, read_header, data, limits.max_pixels)
        with self._for_decoding.hold(self._cost(header, self._min_side_px)), self._clock("decode"):
            how = (limits.max_pixels, self._min_side_px, self.transform, self._views)
            return call_helper(helpers, limits, _views_of, data, *how)

    def views_of_image(self, image: Image.Image) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Return the views of a picture in memory, uint8 (views, px, px, 3), and its repairs (see `Picture`).

        Raises:
            ImageError: As for `upright_rgb`.
        """
        picture = upright_rgb(image, self._min_side_px)
        return self.views_of_picture(picture), picture.repairs

    def views_of_picture(self, picture: Picture) -> NDArray[np.uint8]:
        """Return the views of an upright RGB picture, uint8 (views, px, px, 3)."""
        return _views_of_picture(picture, self.transform, self._views)

    def _cost(self, header: Header, min_side_px: int | None) -> int:
        """Return the memory in bytes that a picture takes until its views are made, without the file."""
        width, height = reduced_size(header.width, header.height, min_side_px)
        decoded = width * height if header.is_jpeg else header.width * header.height
        resized_width, resized_height = self.transform.resized(width, height)
        columns = max(resized_width * height, resized_width * resized_height)
        return header.coefficient_bytes + decoded * header.bytes_per_pixel + columns * _BYTES_PER_RESIZED_PIXEL


def _views_of(
    data: bytes, max_pixels: int, min_side_px: int | None, transform: Transform, views: Sequence[View]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    picture = decode(data, max_pixels, min_side_px)
    return _views_of_picture(picture, transform, views), picture.repairs


def _views_of_picture(picture: Picture, transform: Transform, views: Sequence[View]) -> NDArray[np.uint8]:
    pixels = [view.pixels(picture.image, transform, picture.extent) for view in views]
    return pixels[0][None] if len(pixels) == 1 else np.stack(pixels)


def _file_bytes(row: IndexRow) -> int:
    return row.width * row.height * _FILE_BYTES_PER_PIXEL.get(row.format, _FILE_BYTES_PER_OTHER_PIXEL)
