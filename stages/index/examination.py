"""The examination of files: each file is read, hashed and decoded, by threads or, if there are many, processes."""

import gc
import hashlib
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import numpy as np
from PIL import Image

from headstart.base.errors import DataError
from headstart.base.files import NotRegularError
from headstart.base.helpers import Helpers
from headstart.base.threads import in_order
from headstart.imaging.capture import read_capture
from headstart.imaging.decode import ImageError, decode
from headstart.imaging.effort import Limits, UndecidedError, call_helper, is_plain
from headstart.sources.folder import Folder
from headstart.tables.index import IndexRow

# For fewer files, starting processes would take longer than examining small files in threads.
_MANY = 4000
_CHUNK = 100
ONE_COLOUR = "one colour"
_helpers: list[Helpers] = []  # the helper of a process that examines chunks


def examine_all(source: Folder, paths: Sequence[str], limits: Limits, num_workers: int) -> Iterator[IndexRow]:
    """Give the row of each file, in order. The number and kind of workers change no row.

    Args:
        source: Where the files are.
        paths: Paths of files in the source.
        limits: Limits on each file.
        num_workers: Number of threads or processes.

    Raises:
        DataError: A process died. The message names the first of the files that it may have been decoding.
    """
    if num_workers == 1 or len(paths) < _MANY:
        with Helpers(num_workers) as helpers:
            yield from in_order(lambda path: examine(source, path, limits, helpers), paths, num_workers)
        return
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    spawn = multiprocessing.get_context("spawn")  # fork would copy locks that other threads hold
    # One process more than asked for, because one usually waits for the disk or for work.
    with ProcessPoolExecutor(num_workers + 1, spawn, initializer=_start_process) as pool:
        results = pool.map(partial(_examine_chunk, source, limits), chunks)
        for chunk in chunks:
            try:
                yield from next(results)
            except BrokenProcessPool as error:
                raise DataError(
                    f"a process died while it decoded {chunk[0]!r} or one of the files after it: out of memory, or a "
                    "file that crashes the decoder. Lower runtime.workers (1 finds the file)."
                ) from error


def examine(source: Folder, path: str, limits: Limits, helpers: Helpers) -> IndexRow:
    """Read, hash and decode one file.

    Args:
        source: Where the files are.
        path: Path of the file in the source.
        limits: Limits on the file.
        helpers: Helpers that decode files that may take long.

    Returns:
        The row of the file: `ok`, `repaired`, `quarantined`, or `skipped` if it is not a regular file. The reason of a
        picture of one colour ends with `ONE_COLOUR`; it is used all the same. If decoding was stopped, the row is that
        of a file that was not read, so that the next run tries again.
    """
    try:
        data = source.read(path)
        if is_plain(data, limits.most_effort):
            return _describe(data, path, limits.max_pixels)
        # The helper reads the file again, which costs less than to send the bytes of a large one.
        return call_helper(helpers, limits, _read_and_describe, source, path, limits.max_pixels)
    except NotRegularError as error:
        return unread(path, "skipped", str(error.strerror))
    except OSError as error:
        return unread(path, "quarantined", f"cannot be read: {error.strerror}")
    except UndecidedError as error:
        return unread(path, "quarantined", str(error))


def unread(path: str, status: str, reason: str) -> IndexRow:
    """Return the row of a file that was not read."""
    return IndexRow(path, digest="", format="", width=0, height=0, status=status, reason=reason)


def _is_of_one_colour(image: Image.Image) -> bool:
    right, bottom = image.width - 1, image.height - 1
    corner = image.getpixel((0, 0))
    places = ((right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2))
    # Looking at every pixel takes a tenth of the time of decoding, so few pictures get there.
    return all(image.getpixel(place) == corner for place in places) and not any(np.ptp(image.getextrema(), axis=1))


def _read_and_describe(source: Folder, path: str, max_pixels: int) -> IndexRow:
    try:
        return _describe(source.read(path), path, max_pixels)
    except OSError as error:  # it has changed since it was read a moment ago
        return unread(path, "quarantined", f"cannot be read: {error.strerror}")


def _describe(data: bytes, path: str, max_pixels: int) -> IndexRow:
    """Return the row of a file from its bytes."""
    digest = hashlib.sha256(data).hexdigest()
    # Only whether the file can be decoded matters, and a JPEG is read to its end however few of its pixels are made.
    try:
        picture = decode(data, max_pixels, min_side_px=1)
    except ImageError as error:
        return IndexRow(path, digest, format="", width=0, height=0, status="quarantined", reason=str(error))
    status = "repaired" if picture.repairs else "ok"
    size, is_of_one_colour = (picture.width, picture.height), _is_of_one_colour(picture.image)
    if is_of_one_colour and picture.image.size != size:  # means of blocks may be equal where pixels are not
        is_of_one_colour = _is_of_one_colour(decode(data, max_pixels).image)
    notes, capture = [*picture.repairs, *[ONE_COLOUR] * is_of_one_colour], read_capture(data)
    return IndexRow(path, digest, picture.format, *size, status, ", ".join(notes), capture.camera, capture.taken)


def _examine_chunk(source: Folder, limits: Limits, paths: Sequence[str]) -> list[IndexRow]:
    assert _helpers, "the process has started"
    return [examine(source, path, limits, _helpers[0]) for path in paths]


def _start_process() -> None:
    _helpers.append(Helpers(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    gc.disable()  # decoding makes no reference cycles
