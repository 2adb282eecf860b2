"""The pipeline: threads read, decode and embed images; their embeddings come back in the order of the index."""

from collections.abc import Generator, Sequence

import numpy as np

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

    Each thread takes a few images from the file to the embeddings. So reading, decoding and forward passes overlap,
    every core has work until the end, and memory holds only the pictures that the threads are working on.

    Raises:
        DataError: A file is missing or differs from the index. The rows before it have been given by then.
    """
    step = max(1, engine.batch // num_views)

    def embed(part: Sequence[IndexRow]) -> tuple[Sequence[IndexRow], Embeddings]:
        pixels = np.concatenate([reader.pixels(row) for row in part])
        return part, split_views(engine.embed(pixels), num_views)

    return in_order(embed, (rows[start : start + step] for start in range(0, len(rows), step)), num_workers)


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
