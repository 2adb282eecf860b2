"""The index: one row for every file of the data set. Beside it, the rows of the user's table of labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self

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
        camera: Make, model and serial number of the camera, from EXIF; empty if the file does not name one.
        taken: When the photo was taken, by the camera's clock, in ISO 8601 without a time zone; empty if the file does
            not say.
    """

    path: str
    digest: str
    format: str
    width: int
    height: int
    status: str
    reason: str
    camera: str = ""
    taken: str = ""

    repro: ClassVar[str] = "index"

    @classmethod
    def problem(cls, rows: Sequence[Self]) -> str:
        """Return what is wrong with the first row whose time cannot be compared with others."""
        for number, row in enumerate(rows, start=1):
            if row.taken and not _is_local_time(row.taken):
                return (
                    f"row {number}: taken is {row.taken!r}; expected a time in ISO 8601 without a time zone, or nothing"
                )
        return ""


@dataclass(frozen=True)
class LabelRow(Row):
    """One row of the user's table of labels.

    Attributes:
        path: Path of the image, as in the index.
        label: Name of its class; empty for an image without a label.
        split: One of `SPLITS`; empty if the table has no splits, or has neither label nor split for this image.
        group: Name of its group, whose images are never divided between splits; empty if the table has no groups.
    """

    path: str
    label: str
    split: str
    group: str

    repro: ClassVar[str] = "index"


def seconds_between(one: IndexRow, other: IndexRow) -> float | None:
    """Return the seconds between two photos of the same camera; None for two cameras, or if a time is unknown.

    Photos that name no camera count as those of one camera: to keep two photos together that need not be costs little,
    and to test on the neighbour of a training image makes the scores too good.
    """
    if not one.taken or not other.taken or one.camera != other.camera:
        return None
    return abs((datetime.fromisoformat(one.taken) - datetime.fromisoformat(other.taken)).total_seconds())


def _is_local_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


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
