"""The index: one row for every file of the data set, and what the user's own table says of them."""

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
        path: Relative to the data set's folder, with `/`.
        digest: sha256 of the file's bytes, 64 hex digits; empty for a file that was not read.
        format: What the bytes are, such as `JPEG`; empty if not an image.
        width: Pixels after EXIF orientation; 0 if not decoded.
        height: Likewise.
        status: One of `STATUSES`; `ok` and `repaired` files are used, the others are not.
        reason: What was repaired, of which path it is a duplicate, or why it is not used; empty for `ok`.
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
    """What the user's own table says of an image.

    Attributes:
        path: As in the index.
        label: The class by name.
        split: One of `SPLITS`; empty where the table has no splits.
        group: Images of one group are never divided between splits; empty where the table has no groups.
    """

    path: str
    label: str
    split: str
    group: str

    repro: ClassVar[str] = "index"


def count_states(rows: Sequence[IndexRow]) -> list[tuple[str, str, int]]:
    """Return `status, reason, files`, the most frequent first; of duplicates the path is left out."""
    counts = Counter((row.status, "" if row.status == "duplicate" else row.reason) for row in rows)
    return sorted(((*key, count) for key, count in counts.items()), key=lambda row: (-row[2], row))


def describe_states(rows: Sequence[IndexRow]) -> str:
    """Return the sums in one line, such as `398 files = 397 ok + 1 skipped`."""
    counts = Counter(row.status for row in rows)
    assert counts.total() == sum(counts[status] for status in STATUSES), "every file is in exactly one state"
    sums = " + ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{len(rows)} files = {sums}" if rows else "0 files"
