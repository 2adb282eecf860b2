"""The reader: image files to batches of pixels, in order, in threads, in bounded memory."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from stages.core.errors import DataError
from stages.core.images import ImageError, decode
from stages.core.tables import IndexRow
from stages.core.transforms import Transform

# Bytes that a pixel takes at its worst while it is decoded (12.1 measured for RGBA and palette, less for others, and up
# to 4 for the file itself), and bytes that it takes when resized (4 in Pillow, 3 in the tensor).
_BYTES_PER_PIXEL = 16
_BYTES_PER_RESIZED_PIXEL = 7


def read_batches(
    rows: Sequence[IndexRow], root: Path, transform: Transform, *, batch: int, num_workers: int, memory_bytes: int
) -> Iterator[torch.Tensor]:
    """Give the pixels of all images, in order, uint8 (batch, 3, px, px); the last batch may be smaller.

    Pictures are decoded ahead in threads (Pillow and torch release the interpreter lock), as many as `memory_bytes`
    holds by the sizes in the index; an image larger than the whole budget is decoded alone.

    Args:
        rows: Usable rows of the index.
        root: The data set's folder.
        transform: Applied to every picture.
        batch: Images in a batch.
        num_workers: Threads.
        memory_bytes: Bound for what is decoded and not yet taken.

    Raises:
        DataError: A file is missing, or its bytes are not the ones that were indexed.
    """
    pixels_bytes = 3 * transform.crop_px**2

    def cost(row: IndexRow) -> int:
        resized = transform.resize_px**2 * max(row.width, row.height) // min(row.width, row.height)
        return row.width * row.height * _BYTES_PER_PIXEL + resized * _BYTES_PER_RESIZED_PIXEL

    budget = memory_bytes - batch * pixels_bytes  # the batch being filled
    pending: deque[tuple[Future[torch.Tensor], int]] = deque()
    in_flight = 0
    filled: list[torch.Tensor] = []
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            upcoming = iter(rows)
            row = next(upcoming, None)
            while row is not None or pending:
                while row is not None and (not pending or in_flight + cost(row) <= budget):
                    pending.append((pool.submit(_read_pixels, row, root, transform), cost(row)))
                    in_flight += cost(row)
                    row = next(upcoming, None)
                future, freed = pending.popleft()
                filled.append(future.result())
                in_flight -= freed
                if len(filled) == batch:
                    yield torch.stack(filled)
                    filled = []
            if filled:
                yield torch.stack(filled)
        finally:
            for future, _ in pending:
                future.cancel()


def _read_pixels(row: IndexRow, root: Path, transform: Transform) -> torch.Tensor:
    path = root / row.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), but data/index.csv lists it. Run: dvc repro"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != row.digest:
        raise DataError(
            f"{path}: has changed since it was indexed: sha256 is {found}, data/index.csv says {row.digest}. "
            "Run: dvc repro"
        )
    try:
        return transform.pixels(decode(data, max_pixels=row.width * row.height).image)
    except ImageError as error:
        raise DataError(
            f"{path}: decoded when it was indexed, but not now ({error}). Run: dvc repro -f index"
        ) from error
