"""Outcomes: everything that the metrics and curves need to know about the test images."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.tables.classes import class_numbers
from headstart.tables.predictions import Predictions

NUM_BINS = 15


class Cases(NamedTuple):
    """Pairs of an image and a positive class, the most probable pair first.

    Attributes:
        image: (M,) row of the image of each case.
        is_positive: (M,) whether the image is of the positive class.
        ends: (T,) place of the last case of each distinct probability.
    """

    image: NDArray[np.int64]
    is_positive: NDArray[np.bool_]
    ends: NDArray[np.int64]


@dataclass(frozen=True)
class Outcomes:
    """What the metrics and curves need to know about N test images and C classes.

    Attributes:
        logits: (N, C) calibrated logits.
        probabilities: (N, C) probability of each class.
        target: (N,) number of the true class.
        predicted: (N,) number of the class with the largest logit (the first of equal ones).
        rank: (N,) number of classes that are more probable than the true one.
        confidence: (N,) probability of the predicted class.
        log_loss: (N,) minus the log of the true class's probability, in nats.
        brier: (N,) squared distance of the probabilities from the truth, 0 to 2.
    """

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    target: NDArray[np.int64]
    predicted: NDArray[np.int64]
    rank: NDArray[np.int64]
    confidence: NDArray[np.float64]
    log_loss: NDArray[np.float64]
    brier: NDArray[np.float64]

    @classmethod
    def of(cls, predictions: Predictions) -> "Outcomes":
        """Return the outcomes of predictions, whose logits are calibrated."""
        logits = predictions.logits
        target = class_numbers(predictions.labels, predictions.classes)
        rows = np.arange(len(target))
        log_probabilities = predictions.log_probabilities
        probabilities = np.exp(log_probabilities)
        brier = (probabilities**2).sum(axis=1) - 2 * probabilities[rows, target] + 1
        return cls(
            logits=logits,
            probabilities=probabilities,
            target=target,
            predicted=logits.argmax(axis=1),
            rank=(logits > logits[rows, target][:, None]).sum(axis=1),
            confidence=probabilities.max(axis=1),
            log_loss=-log_probabilities[rows, target],
            brier=np.maximum(brier, 0.0),
        )

    def of_rows(self, chosen: NDArray[np.bool_]) -> "Outcomes":
        """Return the outcomes of the chosen rows, (N,)."""
        return Outcomes(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    @property
    def num_images(self) -> int:
        """Number of test images, N."""
        return len(self.target)

    @property
    def num_classes(self) -> int:
        """Number of classes of the model, C."""
        return self.logits.shape[1]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """(N,) whether the predicted class is the true one."""
        return self.target == self.predicted

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """(N,) number of the bin of each confidence. The bins are equally wide and include their upper edge."""
        return np.searchsorted(np.linspace(0, 1, NUM_BINS + 1)[1:-1], self.confidence)

    def mean_log_loss(self, counts: NDArray[np.int64]) -> float:
        """Return the mean log loss in nats. The argument is that of `calibration_error`."""
        return float(counts @ self.log_loss / counts.sum())

    def calibration_error(self, counts: NDArray[np.int64]) -> float:
        """Return the mean distance between confidence and accuracy over bins of confidence (ECE; Guo et al. 2017).

        Args:
            counts: (N,) how often each image counts.
        """
        distances = counts * (self.confidence - self.is_right)
        return float(np.abs(np.bincount(self.bins, distances, minlength=NUM_BINS)).sum() / counts.sum())

    @cached_property
    def cases(self) -> Cases:
        """One case for each image and positive class. The sort is slow, so all curves and areas share it.

        With two classes, the second one is the positive class. With more, each class is the positive one in turn, and
        all cases are pooled (one against the rest, micro average).
        """
        first = 1 if self.num_classes == 2 else 0
        probability = self.probabilities[:, first:].ravel()
        is_positive = (self.target[:, None] == np.arange(first, self.num_classes)).ravel()
        order = np.argsort(-probability, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
        return Cases(order // (self.num_classes - first), is_positive[order], ends)

    def positives(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of true and of false positives at each threshold of probability, the highest first.

        Args:
            counts: (N,) how often each image counts.

        Returns:
            (T,) true positives and (T,) false positives. The last ones are the numbers of all positive and of all
            negative cases. Thresholds above which nothing counts are left out.
        """
        cases = self.cases
        weights = counts[cases.image]
        true = np.cumsum(weights * cases.is_positive)[cases.ends]
        false = np.cumsum(weights)[cases.ends] - true
        counted = true + false > 0
        return true[counted], false[counted]
