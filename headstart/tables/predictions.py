"""Predictions: the logits of every test image, by one track."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.base.csv_files import read_table, write_table
from headstart.base.errors import TableError

LOGIT_PREFIX = "logit_"


@dataclass(frozen=True)
class Predictions:
    """The logits of one track for every test image.

    Attributes:
        digests: (N,) sha256 of each image, in hex digits.
        paths: (N,) paths of the images, as in the index.
        labels: (N,) name of the true class of each image.
        classes: (C,) names of the classes, in the order of the logits.
        logits: Calibrated logits, float64 (N, C), finite.
    """

    digests: Sequence[str]
    paths: Sequence[str]
    labels: Sequence[str]
    classes: Sequence[str]
    logits: NDArray[np.float64]

    @property
    def predicted(self) -> list[str]:
        """Return the name of the class with the largest logit, for each image (N,)."""
        return [self.classes[column] for column in self.logits.argmax(axis=1)]

    @property
    def log_probabilities(self) -> NDArray[np.float64]:
        """Return the log of the probability of each class, in nats, (N, C)."""
        # SciPy has this function, but its import takes a quarter of a second in stages that last one second.
        shifted = self.logits - self.logits.max(axis=1, keepdims=True)
        logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return logs

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Return the probability of each class, in [0, 1], (N, C)."""
        return np.exp(self.log_probabilities)

    @property
    def accuracy(self) -> float:
        """Return the fraction of the images whose predicted class is the true one, in [0, 1]."""
        return float(np.mean([label == name for label, name in zip(self.labels, self.predicted, strict=True)]))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a CSV file with the columns digest, path, label, predicted, and `logit_<class>` for each class.

    Logits are rounded to 6 decimals. Equal predictions give equal bytes.
    """
    header = ["digest", "path", "label", "predicted", *(LOGIT_PREFIX + name for name in predictions.classes)]
    rounded = [[f"{value:.6f}" for value in row] for row in predictions.logits]
    identity = zip(predictions.digests, predictions.paths, predictions.labels, predictions.predicted, strict=True)
    write_table(path, header, ((*who, *row) for who, row in zip(identity, rounded, strict=True)))


def read_predictions(path: Path) -> Predictions:
    """Read and check a file that `write_predictions` wrote.

    Raises:
        TableError: The file is missing or empty, a column is missing, a logit is not a finite number, a label is not a
            class, a digest is listed twice, or `predicted` is not a class with the largest logit of its row.
    """
    remedy = "Run: dvc repro " + path.stem
    return check_predictions(*read_table(path, remedy), str(path), remedy)


def check_predictions(header: list[str], lines: Sequence[list[str]], name: str, remedy: str) -> Predictions:
    """Return the lines of a table of predictions as predictions.

    Args:
        header: Names of the columns.
        lines: Cells of each row.
        name: Name of the file, for messages.
        remedy: What the user can do about a bad file. Every message ends with it.

    Raises:
        TableError: As `read_predictions`.
    """
    identity = ["digest", "path", "label", "predicted"]
    classes = [column.removeprefix(LOGIT_PREFIX) for column in header[4:]]
    if header != [*identity, *(LOGIT_PREFIX + one for one in classes)] or not classes:
        raise TableError(f"{name}: columns are {header}; expected {identity} and {LOGIT_PREFIX}<class>. {remedy}")
    if not lines:
        raise TableError(f"{name}: has no rows; expected one for each test image. {remedy}")
    try:
        logits = np.array([[float(cell) for cell in line[4:]] for line in lines], dtype=np.float64)
    except ValueError as error:
        raise TableError(f"{name}: expected a number in every logit column and row ({error}). {remedy}") from error
    if logits.shape != (len(lines), len(classes)):
        raise TableError(f"{name}: rows have {logits.shape[1]} logits; expected {len(classes)} in every row. {remedy}")
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        raise TableError(f"{name}: row {row + 1}: the logits of {lines[row][1]} are not all finite. {remedy}")
    seen: set[str] = set()
    for number, (line, row) in enumerate(zip(lines, logits, strict=True), start=1):
        digest, _, label, predicted = line[:4]
        if digest in seen:
            raise TableError(
                f"{name}: row {number}: digest {digest} is listed twice; expected each image once. {remedy}"
            )
        seen.add(digest)
        if label not in classes or predicted not in classes:
            raise TableError(
                f"{name}: row {number}: label is {label!r} and predicted is {predicted!r}; expected names of "
                f"the classes {classes}. {remedy}"
            )
        if row[classes.index(predicted)] < row.max():
            raise TableError(
                f"{name}: row {number}: predicted is {predicted!r}; expected the class with the largest logit. {remedy}"
            )
    digests, paths, labels = ([line[column] for line in lines] for column in range(3))
    return Predictions(digests, paths, labels, classes, logits)
