"""Targets: the class and the weight of every training row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.base.errors import DataError, ParamsError
from headstart.linear.moments import Array
from headstart.linear.params import ClassWeights
from headstart.tables.classes import class_numbers


@dataclass(frozen=True)
class Targets:
    """What the training rows should give.

    Attributes:
        classes: (N,) number of each row's class.
        weights: (N,) of each row.
        num_classes: C, also where a class has no row.
    """

    classes: NDArray[np.int64]
    weights: Array
    num_classes: int

    def one_hot(self, positions: NDArray[np.intp]) -> Array:
        """Return (B, C) of some rows."""
        return np.eye(self.num_classes)[self.classes[positions]]


def make_targets(labels: Sequence[str], classes: Sequence[str], class_weights: ClassWeights, key: str) -> Targets:
    """Return the targets of rows.

    Args:
        labels: (N,) class of every row, by name.
        classes: (C,) order of the logits.
        class_weights: Weight of the rows of each class.
        key: Name of `class_weights` in params.yaml, for the message.

    Raises:
        DataError: A label that is no class.
        ParamsError: A weight for a class that is not there.
    """
    strange = sorted(set(labels) - set(classes))
    if strange:
        raise DataError(f"data/split.csv: labels {strange} are not in data/classes.json. Run: dvc repro split")
    targets_N = class_numbers(labels, classes)
    counts_C = np.bincount(targets_N, minlength=len(classes))
    weights_C = np.ones(len(classes))
    if class_weights == "balanced":
        weights_C = len(labels) / (np.count_nonzero(counts_C) * np.maximum(counts_C, 1))
    elif class_weights != "none":
        unknown = sorted(set(class_weights) - set(classes))
        if unknown:
            raise ParamsError(f"{key}: found {unknown}; expected some of the classes {list(classes)}")
        weights_C = np.array([class_weights.get(name, 1.0) for name in classes])
    return Targets(targets_N, weights_C[targets_N], len(classes))
