"""The split: a class and a split for every image, and the names of the classes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from headstart.base.errors import TableError
from headstart.base.files import write_json
from headstart.tables.names import SPLITS
from headstart.tables.rows import Row


@dataclass(frozen=True)
class SplitRow(Row):
    """One image that is trained on or reported on.

    Attributes:
        digest: sha256 of the file's bytes; unique in the table.
        path: As in the index.
        label: The class by name.
        split: `train` or `val` (training and selection) or `test` (reported).
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


def write_classes(path: Path, classes: Sequence[str]) -> None:
    """Write the names of the classes; their order is the order of the logits, here and in every bundle."""
    write_json(path, {"classes": list(classes)})


def read_classes(path: Path) -> list[str]:
    """Read what `write_classes` wrote.

    Raises:
        TableError: The file is missing or is not a list of at least 2 different names.
    """
    remedy = "Run: dvc repro split"
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))["classes"]
    except FileNotFoundError as error:
        raise TableError(f"{path}: is missing. {remedy}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f'{path}: expected {{"classes": [names]}}. {remedy}') from error
    if not isinstance(classes, list) or len({str(name) for name in classes}) != len(classes) or len(classes) < 2:
        raise TableError(f"{path}: found {classes}; expected at least 2 different names. {remedy}")
    return [str(name) for name in classes]
