"""Buffers: where threads put the pixels of a batch, resized by Pillow, or as they are for an engine that resizes."""

from typing import Protocol

from headstart.engines.engine import Engine
from headstart.imaging.reader import Reader
from headstart.imaging.staging import Pictures, StagingBuffer, staging_bytes
from headstart.tables.index import IndexRow


class Buffer(Protocol):
    """Memory for the pixels of a batch."""

    def put(self, place: int, row: IndexRow) -> None:
        """Read an image and put its pixels at a place of the batch. Called in threads."""
        ...

    def pictures(self, num: int) -> Pictures:
        """Return the pictures of the first `num` places, for the engine."""
        ...

    def clear(self) -> None:
        """Make the buffer ready for another batch."""
        return


class SquareBuffer(Buffer):
    """A buffer for views that Pillow has resized. The arguments are those of `new_buffer`."""

    def __init__(self, reader: Reader, engine: Engine, size: int, num_views: int) -> None:
        self._reader, self._num_views = reader, num_views
        self._pixels = engine.new_buffer((size * num_views, reader.px, reader.px, 3))

    def put(self, place: int, row: IndexRow) -> None:
        """See `Buffer`."""
        self._pixels[place * self._num_views : (place + 1) * self._num_views] = self._reader.pixels(row)

    def pictures(self, num: int) -> Pictures:
        """See `Buffer`."""
        return self._pixels[: num * self._num_views]


class PictureBuffer(Buffer):
    """A buffer for pictures that the engine resizes. The arguments are those of `new_buffer`."""

    def __init__(self, reader: Reader, engine: Engine, size: int) -> None:
        self._reader = reader
        self._staging = StagingBuffer(engine.new_buffer((size * staging_bytes(reader.px),)), size, reader.transform)

    def put(self, place: int, row: IndexRow) -> None:
        """See `Buffer`."""
        self._reader.stage(row, self._staging, place)

    def pictures(self, num: int) -> Pictures:
        """See `Buffer`."""
        return self._staging.pictures(num)

    def clear(self) -> None:
        """See `Buffer`."""
        self._staging.clear()


def new_buffer(reader: Reader, engine: Engine, size: int, num_views: int) -> Buffer:
    """Return a buffer.

    Args:
        reader: Reads the images.
        engine: Engine that takes the pictures.
        size: Images in a batch.
        num_views: Views of each image.
    """
    if engine.resizes:
        return PictureBuffer(reader, engine, size)
    return SquareBuffer(reader, engine, size, num_views)
