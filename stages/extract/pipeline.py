"""The pipeline: threads read, decode and embed images; their embeddings come back in the order of the index."""

from collections.abc import Generator, Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.features import Rows
from headstart.base.threads import in_order
from headstart.engines.engine import Engine
from headstart.imaging.reader import Reader
from headstart.tables.index import IndexRow

Embeddings = dict[str, Rows]


def embed_rows(
    rows: Sequence[IndexRow], reader: Reader, engine: Engine, num_views: int, num_workers: int
) -> Generator[tuple[Sequence[IndexRow], Embeddings]]:
    """Give the embeddings of a few rows at a time, (n, views, dim) for each layer, until all have been given.

    Where several calls of the engine may run at once, each thread takes a few images all the way from the file to the
    embeddings, so that every core has work until the end. Elsewhere, on a GPU, the threads read and decode image by
    image, and one more thread runs the engine: a batch is ready soon, and the next one is decoded meanwhile.

    Raises:
        DataError: A file is missing or differs from the index. The rows before it have been given by then.
    """
    step = max(1, engine.batch // num_views)
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    if engine.num_parallel > 1:
        return in_order(lambda part: _embed(part, map(reader.pixels, part), engine, num_views), parts, num_workers)
    decoded = in_order(reader.pixels, rows, num_workers, num_ahead=step)
    return in_order(lambda part: _embed(part, islice(decoded, len(part)), engine, num_views), parts, num_threads=1)


def _embed(
    rows: Sequence[IndexRow], pixels: Iterable[NDArray[np.uint8]], engine: Engine, num_views: int
) -> tuple[Sequence[IndexRow], Embeddings]:
    return rows, split_views(engine.embed(np.concatenate(list(pixels))), num_views)


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
