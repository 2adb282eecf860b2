"""The pipeline: threads read, decode and embed images; their embeddings come back in the order of the index."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress

import numpy as np

from headstart.artifacts.features import Rows
from headstart.base.threads import in_order
from headstart.engines.engine import Engine
from headstart.imaging.reader import Reader
from headstart.tables.index import IndexRow
from stages.extract.buffers import new_buffer
from stages.extract.decoding import DecodedBatch, DecodedBatches

Embeddings = dict[str, Rows]
# Images that may be decoded before their turn, for each thread, so that a slow one holds up nobody.
_AHEAD = 2


def embed_rows(
    rows: Sequence[IndexRow], reader: Reader, engine: Engine, num_views: int, num_workers: int
) -> Generator[tuple[Sequence[IndexRow], Embeddings]]:
    """Give the embeddings of a few rows at a time, (n, views, dim) for each layer, until all have been given.

    Where several calls of the engine may run at once, each thread takes a few images all the way from the file to the
    embeddings, so that every core has work until the end. Elsewhere, on a GPU, the threads read and decode image by
    image into the buffers of the next batches, while the engine runs.

    Raises:
        DataError: A file is missing or differs from the index. The rows of all batches before it have been given by
            then.
    """
    size = max(1, engine.batch // num_views)
    if engine.num_parallel > 1:
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        yield from in_order(lambda part: (part, _embed(part, reader, engine, num_views)), parts, num_workers)
        return
    if not rows:
        return
    num_buffers = min(-(-len(rows) // size), _num_buffers(size, num_workers))
    buffers = [new_buffer(reader, engine, size, num_views) for _ in range(num_buffers)]
    with DecodedBatches(rows, buffers, size, num_workers) as batches:
        yield from _embed_batches(batches, engine, num_views)


def buffer_bytes(engine: Engine, picture_bytes: int, num_views: int, num_workers: int) -> int:
    """Return the memory in bytes that decoded images take in `embed_rows` while they wait for the engine.

    Args:
        engine: The engine.
        picture_bytes: Space for each picture, in bytes.
        num_views: Views of each image.
        num_workers: Threads that decode.
    """
    if engine.num_parallel > 1:
        return 0
    size = max(1, engine.batch // num_views)
    return _num_buffers(size, num_workers) * size * num_views * picture_bytes


def embed_files(files: Sequence[bytes], max_pixels: int, reader: Reader, engine: Engine, num_views: int) -> Embeddings:
    """Return the embeddings of a few image files, given as bytes: (n, views, dim) for each layer.

    Raises:
        ImageError: A file cannot be decoded.
    """
    pixels = np.concatenate([reader.views_of(data, max_pixels)[0] for data in files])
    return split_views(engine.embed(pixels), num_views)


def split_views(embeddings: Embeddings, num_views: int) -> Embeddings:
    """Turn (n * views, dim) into (n, views, dim) for each layer."""
    return {layer: rows.reshape(-1, num_views, rows.shape[1]) for layer, rows in embeddings.items()}


def _embed(rows: Sequence[IndexRow], reader: Reader, engine: Engine, num_views: int) -> Embeddings:
    return split_views(engine.embed(np.concatenate([reader.pixels(row) for row in rows])), num_views)


def _num_buffers(size: int, num_workers: int) -> int:
    """Return the number of batches in memory: one in the engine, and others, at least two, that are being decoded."""
    return 1 + max(2, -(-_AHEAD * num_workers // size))


def _embed_batches(
    batches: DecodedBatches, engine: Engine, num_views: int
) -> Generator[tuple[Sequence[IndexRow], Embeddings]]:
    """Start each batch before the embeddings of the one before are waited for, so that a GPU need not wait."""
    following, started = iter(batches), deque[tuple[DecodedBatch, Callable[[], Embeddings]]]()
    error: Exception | None = None

    def collect() -> tuple[Sequence[IndexRow], Embeddings]:
        batch, wait = started.popleft()
        embeddings = wait()
        batches.release(batch)
        return batch.rows, split_views(embeddings, num_views)

    try:
        while error is None:
            try:
                batch = next(following)
                started.append((batch, engine.start(batch.buffer.pictures(len(batch.rows)))))
            except StopIteration:
                break
            except Exception as found:  # noqa: BLE001 - raised after the embeddings of the batch before
                error = found
            if len(started) > 1:
                yield collect()
        while started:
            yield collect()
        if error is not None:
            raise error
    finally:
        for _, wait in started:  # a device may still read the buffers
            with suppress(Exception):
                wait()
