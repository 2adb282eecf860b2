"""The split: a class and a split for every image that has a label, and the pool of those that have none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from headstart.tables.names import SPLITS
from headstart.tables.rows import Row


@dataclass(frozen=True)
class ImageRow(Row):
    """Base class of the rows of a table in which each image stands once.

    Attributes:
        digest: sha256 of the file's bytes, in hex digits; unique in the table.
        path: Path of the image, as in the index.
    """

    digest: str
    path: str

    repro: ClassVar[str] = "split"

    def mistake(self) -> str:
        """Return what is wrong with the row itself; empty if nothing is."""
        return ""

    @classmethod
    def problem(cls, rows: Sequence[Self]) -> str:
        """Return what is wrong with the first row that has a mistake or whose digest is listed twice.

        An image that is listed twice could be trained on and tested.
        """
        seen: set[str] = set()
        for number, row in enumerate(rows, start=1):
            if mistake := row.mistake():
                return f"row {number}: {mistake}"
            if row.digest in seen:
                return f"row {number}: digest {row.digest} is listed twice; expected each image once"
            seen.add(row.digest)
        return ""


@dataclass(frozen=True)
class SplitRow(ImageRow):
    """One image of the training, validation or test set.

    Attributes:
        label: Name of its class.
        split: `train`, `val` (both are used for training and selection) or `test` (the test set).
        group: Name of its group, whose images are never divided between splits.
    """

    label: str
    split: str
    group: str

    def mistake(self) -> str:
        """Return what is wrong with the split. Images of an unknown split would be trained on."""
        return "" if self.split in SPLITS else f"split is {self.split!r}; expected one of {SPLITS}"


@dataclass(frozen=True)
class PoolRow(ImageRow):
    """One image of the pool: it has no label yet."""


@dataclass(frozen=True)
class RelabelledRow(ImageRow):
    """An image whose label a fix changed.

    Attributes:
        given: Label of the folder or the table; empty if its copies had several.
        label: Label of the fix.
    """

    given: str
    label: str
