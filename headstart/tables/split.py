"""The split: a class and a split for every image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from headstart.tables.names import SPLITS
from headstart.tables.rows import Row


@dataclass(frozen=True)
class SplitRow(Row):
    """One image of the training, validation or test set.

    Attributes:
        digest: sha256 of the file's bytes; unique in the table.
        path: As in the index.
        label: The class by name.
        split: `train` or `val` (training and selection) or `test` (the test set).
        group: Images of one group are never divided between splits.
    """

    digest: str
    path: str
    label: str
    split: str
    group: str

    repro: ClassVar[str] = "split"

    @classmethod
    def problem(cls, rows: Sequence[Self]) -> str:
        """An image in two splits would be trained on and tested; a split that nobody knows would be trained on."""
        seen: set[str] = set()
        for number, row in enumerate(rows, start=1):
            if row.split not in SPLITS:
                return f"row {number}: split is {row.split!r}; expected one of {SPLITS}"
            if row.digest in seen:
                return f"row {number}: digest {row.digest} is there twice"
            seen.add(row.digest)
        return ""
