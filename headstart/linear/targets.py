"""Targets: the class and the sample weight of every training row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.base.errors import DataError, ParamsError
from headstart.linear.model import Float64Array
from headstart.linear.params import ClassWeights
from headstart.tables.classes import class_numbers


@dataclass(frozen=True)
class Targets:
    """The targets of the training rows.

    Attributes:
        classes: int64 (N,), number of each row's class, in [0, num_classes).
        sample_weights: float64 (N,), positive: how much each row counts in the loss.
        num_classes: Number of classes, C. It includes classes without rows.
    """

    classes: NDArray[np.int64]
    sample_weights: Float64Array
    num_classes: int

    def one_hot(self, positions: NDArray[np.intp]) -> Float64Array:
        """Return the one-hot targets of some rows, float64 (B, C): 1 for the row's class, 0 for every other class.

        Args:
            positions: (B,) positions of the rows.
        """
        targets = np.zeros((len(positions), self.num_classes))
        targets[np.arange(len(positions)), self.classes[positions]] = 1.0
        return targets


def make_targets(labels: Sequence[str], classes: Sequence[str], class_weights: ClassWeights, key: str) -> Targets:
    """Return the targets of rows. Each row's sample weight is the weight of its class.

    Args:
        labels: (N,) name of every row's class.
        classes: (C,) names in the order of the logits.
        class_weights: `none`: 1 for every class. `balanced`: N / (number of classes with rows x number of rows of the
            class), as in scikit-learn. A table: its weights by name, and 1 for the classes that it does not name.
        key: Name of the param `class_weights` in params.yaml, for the error message.

    Raises:
        DataError: A label is not one of the classes.
        ParamsError: `class_weights` names a class that does not exist.
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
