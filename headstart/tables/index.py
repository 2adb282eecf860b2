"""The index: one row for every file of the data set. Beside it, the rows of the user's table of labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from headstart.tables.rows import Row

STATUSES = ("ok", "repaired", "duplicate", "quarantined", "skipped")
USABLE = ("ok", "repaired")


@dataclass(frozen=True)
class IndexRow(Row):
    """One file of the data set.

    Attributes:
        path: Path relative to the data set's folder, with `/`.
        digest: sha256 of the file's bytes, in 64 hex digits; empty if the file was not read.
        format: Name of the image format (see `imaging.formats`), such as `JPEG`; empty if the file was not decoded.
        width: Width in pixels, after EXIF orientation; 0 if the file was not decoded.
        height: Height in pixels, after EXIF orientation; 0 if the file was not decoded.
        status: One of `STATUSES`. Only `ok` and `repaired` files are used.
        reason: For `ok`, empty, or `one colour`. Otherwise what was repaired, the file that has the same bytes, or why
            the file is not used.
    """

    path: str
    digest: str
    format: str
    width: int
    height: int
    status: str
    reason: str

    repro: ClassVar[str] = "index"


@dataclass(frozen=True)
class LabelRow(Row):
    """One row of the user's table of labels.

    Attributes:
        path: Path of the image, as in the index.
        label: Name of its class.
        split: One of `SPLITS`; empty if the table has no splits.
        group: Name of its group, whose images are never divided between splits; empty if the table has no groups.
    """

    path: str
    label: str
    split: str
    group: str

    repro: ClassVar[str] = "index"


def count_states(rows: Sequence[IndexRow]) -> list[tuple[str, str, int]]:
    """Return status, reason and number of files of each state, the most frequent first. Duplicates have no reason."""
    counts = Counter((row.status, "" if row.status == "duplicate" else row.reason) for row in rows)
    return sorted(((*key, count) for key, count in counts.items()), key=lambda row: (-row[2], row))


def describe_states(rows: Sequence[IndexRow]) -> str:
    """Return the number of files by status in one line, such as `398 files = 397 ok + 1 skipped`."""
    counts = Counter(row.status for row in rows)
    assert counts.total() == sum(counts[status] for status in STATUSES), "every file is in exactly one state"
    sums = " + ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{len(rows)} files = {sums}" if rows else "0 files"
