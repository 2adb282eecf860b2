"""The ledger: every file of a folder, read once, ends in exactly one row and one state."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from stages.core.errors import DataError
from stages.core.images import ImageError, decode
from stages.core.progress import Progress
from stages.core.tables import STATUSES, USABLE, IndexRow
from stages.index.params import IndexParams

# .dvcignore hides these from DVC: were they listed, the ledger could change without DVC seeing why.
IGNORED = frozenset({".DS_Store", "Thumbs.db", "__pycache__"})


def build_ledger(root: Path, params: IndexParams, num_workers: int) -> list[IndexRow]:
    """Read every file below a folder and return one row for each, in the order of their paths.

    Of files with the same bytes, the first by path is used and the others are `duplicate`.

    Args:
        root: The data set's folder.
        params: Which files are images.
        num_workers: Decoding threads; does not change the result.

    Raises:
        DataError: The folder is missing, has a link to a folder in it, or holds no usable image; the message counts
            what it does hold.
    """
    if not root.is_dir():
        raise DataError(f"data.path: {root} is no folder; expected one that holds the images, in class folders")
    paths = list(list_files(root))
    with ThreadPoolExecutor(num_workers) as pool, Progress("index", len(paths), "file") as progress:
        rows = []
        for row in pool.map(lambda path: _examine(root, path, params), paths):
            rows.append(row)
            progress.advance(1)
    rows = _mark_duplicates(sorted(rows, key=lambda row: row.path))
    if not any(row.status in USABLE for row in rows):
        examples = "; ".join(f"{row.path}: {row.reason}" for row in rows[:3])
        raise DataError(
            f"data.path: {root} holds no usable image ({describe(rows)}); expected <class>/<image>. {examples}".rstrip()
        )
    return rows


def describe(rows: Sequence[IndexRow]) -> str:
    """Return the ledger's sums in one line, such as `398 files = 397 ok + 1 skipped`."""
    counts = Counter(row.status for row in rows)
    assert counts.total() == sum(counts[status] for status in STATUSES), "every file is in exactly one state"
    sums = " + ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{len(rows)} files = {sums}" if rows else "0 files"


def list_files(root: Path) -> Iterator[str]:
    """Give every file's path below `root`, with `/`; hidden folders are passed over, as DVC passes over `.git`."""
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in IGNORED and not name.startswith(".")]
        for name in names:
            if (Path(folder) / name).is_symlink():
                raise DataError(
                    f"{Path(folder) / name}: is a link to a folder, which DVC does not follow: a change behind it "
                    "would go unseen. Copy the folder, or point data.path at it."
                )
        for name in files:
            if name not in IGNORED:
                yield (Path(folder) / name).relative_to(root).as_posix()


def _examine(root: Path, path: str, params: IndexParams) -> IndexRow:
    def unread(status: str, reason: str) -> IndexRow:
        readable_path = os.fsencode(path).decode("utf-8", "backslashreplace")
        return IndexRow(readable_path, digest="", format="", width=0, height=0, status=status, reason=reason)

    file = root / path
    if any(part.startswith(".") for part in Path(path).parts):
        return unread("skipped", "hidden")
    extension = file.suffix.removeprefix(".").lower()
    if extension not in params.extensions:
        return unread("skipped", f"extension {file.suffix or '(none)'} is not in index.extensions")
    try:
        path.encode()
    except UnicodeEncodeError:
        return unread("skipped", "the name is not UTF-8")
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return unread("skipped", "not a regular file")
        data = file.read_bytes()
    except OSError as error:
        return unread("quarantined", f"cannot be read: {error.strerror}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        picture = decode(data, params.max_pixels)
    except ImageError as error:
        return IndexRow(path, digest, format="", width=0, height=0, status="quarantined", reason=str(error))
    status = "repaired" if picture.repairs else "ok"
    width, height = picture.image.size
    return IndexRow(path, digest, picture.format, width, height, status, reason=", ".join(picture.repairs))


def _mark_duplicates(rows: Sequence[IndexRow]) -> list[IndexRow]:
    first: dict[str, str] = {}
    marked = []
    for row in rows:
        if row.status in USABLE and first.setdefault(row.digest, row.path) != row.path:
            marked.append(replace(row, status="duplicate", reason=f"same bytes as {first[row.digest]}"))
        else:
            marked.append(row)
    return marked
