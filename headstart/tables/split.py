"""The split: a class and a split for every image that has a label, and the pool of those that have none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from headstart.tables.names import SPLITS
from headstart.tables.rows import Row


@dataclass(frozen=True)
class SplitRow(Row):
    """One image of the training, validation or test set.

    Attributes:
        digest: sha256 of the file's bytes, in hex digits; unique in the table.
        path: Path of the image, as in the index.
        label: Name of its class.
        split: `train`, `val` (both are used for training and selection) or `test` (the test set).
        group: Name of its group, whose images are never divided between splits.
    """

    digest: str
    path: str
    label: str
    split: str
    group: str

    repro: ClassVar[str] = "split"

    @classmethod
    def problem(cls, rows: Sequence[Self]) -> str:
        """Return what is wrong with the first row whose split is unknown or whose digest is listed twice.

        Images of an unknown split would be trained on. An image that is listed twice could be trained on and tested.
        """
        seen: set[str] = set()
        for number, row in enumerate(rows, start=1):
            if row.split not in SPLITS:
                return f"row {number}: split is {row.split!r}; expected one of {SPLITS}"
            if row.digest in seen:
                return f"row {number}: digest {row.digest} is listed twice; expected each image once"
            seen.add(row.digest)
        return ""


@dataclass(frozen=True)
class PoolRow(Row):
    """One image of the pool: it has no label yet.

    Attributes:
        digest: sha256 of the file's bytes, in hex digits; unique in the table.
        path: Path of the image, as in the index.
    """

    digest: str
    path: str

    repro: ClassVar[str] = "split"

    @classmethod
    def problem(cls, rows: Sequence[Self]) -> str:
        """Return what is wrong with the first row whose digest is listed twice."""
        seen: set[str] = set()
        for number, row in enumerate(rows, start=1):
            if row.digest in seen:
                return f"row {number}: digest {row.digest} is listed twice; expected each image once"
            seen.add(row.digest)
        return ""


@dataclass(frozen=True)
class RelabelledRow(Row):
    """An image whose label a fix changed.

    Attributes:
        digest: sha256 of the file's bytes, in hex digits.
        path: Path of the image, as in the index.
        given: Label of the folder or the table; empty if its copies had several.
        label: Label of the fix.
    """

    digest: str
    path: str
    given: str
    label: str

    repro: ClassVar[str] = "split"
