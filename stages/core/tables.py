"""The tables between stages: their columns, and writing and reading them as CSV files without guessing."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.core.csv_files import read_table, write_table
from stages.core.errors import TableError
from stages.core.files import write_json

STATUSES = ("ok", "repaired", "duplicate", "quarantined", "skipped")
USABLE = ("ok", "repaired")
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
TRACKS = ("head", "finetune")
LOGIT_PREFIX = "logit_"


@dataclass(frozen=True)
class Row:
    """Base of the rows of a table: a frozen dataclass whose fields are the columns, in order.

    Attributes:
        repro: The stage that writes the table.
    """

    repro: ClassVar[str]


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


R = TypeVar("R", bound=Row)


def write_rows(path: Path, rows: Iterable[R], kind: type[R]) -> None:
    """Write a table; equal rows give equal bytes. Floats have six significant digits; None is an empty cell."""
    columns = [field.name for field in fields(kind)]
    lines: Iterable[Iterable[object]] = map(attrgetter(*columns), rows)
    if not {field.type for field in fields(kind)} <= {str, int}:
        lines = (map(_cell, line) for line in lines)
    write_table(path, columns, lines)


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """Read a table that `write_rows` wrote.

    Raises:
        TableError: The file is missing, its columns are not exactly `kind`'s, or a cell is not what its column holds.
    """
    types = {field.name: field.type for field in fields(kind)}
    remedy = f"Run: dvc repro {kind.repro}"
    header, lines = read_table(path, remedy)
    if header != list(types):
        raise TableError(f"{path}: columns are {header}; expected {list(types)}. {remedy}")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(kind(*(_value(cell, one) for cell, one in zip(line, types.values(), strict=True))))
        except ValueError as error:
            raise TableError(f"{path}: row {number} is {line}; expected {list(types)} ({error}). {remedy}") from error
    _check_split(path, [row for row in rows if isinstance(row, SplitRow)], remedy)
    return rows


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


def _value(cell: str, kind: object) -> int | float | str | None:
    if kind is str:
        return cell
    if kind is int:
        return int(cell)
    if not cell and kind is not float:
        return None
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(f"{cell} is not finite")
    return value


def _check_split(path: Path, rows: Sequence[SplitRow], remedy: str) -> None:
    """An image in two splits would be trained on and reported; a split that nobody knows would be trained on."""
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        if row.split not in SPLITS:
            raise TableError(f"{path}: row {number}: split is {row.split!r}; expected one of {SPLITS}. {remedy}")
        if row.digest in seen:
            raise TableError(f"{path}: row {number}: digest {row.digest} is there twice. {remedy}")
        seen.add(row.digest)


@dataclass(frozen=True)
class Predictions:
    """What one track says of every reported image.

    Attributes:
        digests: (N,) sha256 of each image.
        paths: (N,) as in the index.
        labels: (N,) true class of each image, by name.
        classes: (C,) the model's classes, in the order of the logits.
        logits: (N, C) float64, finite.
    """

    digests: Sequence[str]
    paths: Sequence[str]
    labels: Sequence[str]
    classes: Sequence[str]
    logits: NDArray[np.float64]

    @property
    def predicted(self) -> list[str]:
        """(N,) the class with the largest logit, by name."""
        return [self.classes[column] for column in self.logits.argmax(axis=1)]

    @property
    def accuracy(self) -> float:
        """Fraction of the images whose predicted class is the true one."""
        return float(np.mean([label == name for label, name in zip(self.labels, self.predicted, strict=True)]))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `digest, path, label, predicted` and one `logit_<class>` column per class, logits to 6 decimals."""
    header = ["digest", "path", "label", "predicted", *(LOGIT_PREFIX + name for name in predictions.classes)]
    rounded = [[f"{value:.6f}" for value in row] for row in predictions.logits]
    identity = zip(predictions.digests, predictions.paths, predictions.labels, predictions.predicted, strict=True)
    write_table(path, header, ((*who, *row) for who, row in zip(identity, rounded, strict=True)))


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        TableError: The file is missing or empty, columns are missing, a logit is not a finite number, a label is no
            class, a digest is there twice, or `predicted` is not a class with the largest logit of its row.
    """
    remedy = "Run: dvc repro " + path.stem
    header, lines = read_table(path, remedy)
    identity = ["digest", "path", "label", "predicted"]
    classes = [name.removeprefix(LOGIT_PREFIX) for name in header[4:]]
    if header != [*identity, *(LOGIT_PREFIX + name for name in classes)] or not classes:
        raise TableError(f"{path}: columns are {header}; expected {identity} and {LOGIT_PREFIX}<class>. {remedy}")
    if not lines:
        raise TableError(f"{path}: has no rows; expected one per reported image. {remedy}")
    try:
        logits = np.array([[float(cell) for cell in line[4:]] for line in lines], dtype=np.float64)
    except ValueError as error:
        raise TableError(f"{path}: expected a number in every logit column and row ({error}). {remedy}") from error
    if logits.shape != (len(lines), len(classes)):
        raise TableError(f"{path}: expected {len(classes)} logits in every row. {remedy}")
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        raise TableError(f"{path}: row {row + 1}: the logits of {lines[row][1]} are not all finite. {remedy}")
    seen: set[str] = set()
    for number, (line, row) in enumerate(zip(lines, logits, strict=True), start=1):
        digest, _, label, predicted = line[:4]
        if digest in seen:
            raise TableError(f"{path}: row {number}: digest {digest} is there twice. {remedy}")
        seen.add(digest)
        if label not in classes or predicted not in classes:
            raise TableError(f"{path}: row {number}: {label!r} or {predicted!r} is no class of this table. {remedy}")
        if row[classes.index(predicted)] < row.max():
            raise TableError(f"{path}: row {number}: predicted is {predicted!r}, not the largest logit. {remedy}")
    digests, paths, labels = ([line[column] for line in lines] for column in range(3))
    return Predictions(digests, paths, labels, classes, logits)


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
