"""Curves: reliability, coverage, ROC and precision-recall of one track."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from headstart.tables.evaluate import CoveragePoint, PrecisionRecallPoint, ReliabilityPoint, RocPoint
from headstart.tables.intervals import wilson_interval
from headstart.tables.predictions import Predictions
from stages.evaluate.scores import NUM_BINS, Outcomes, bins_of

_MOST_POINTS = 200


def reliability(outcomes: Outcomes) -> list[ReliabilityPoint]:
    """Return a point for every bin of confidence that has images."""
    bins = bins_of(outcomes.confidence)
    points = []
    for number in range(NUM_BINS):
        inside = bins == number
        if inside.any():
            accuracy, num = float(outcomes.is_right[inside].mean()), int(inside.sum())
            low, high = wilson_interval(accuracy, num)
            confidence = float(outcomes.confidence[inside].mean())
            points.append(ReliabilityPoint(confidence, accuracy, low, high, confidence, num))
    return points


def coverage(outcomes: Outcomes) -> list[CoveragePoint]:
    """Return the accuracy on the most confident part of the images, as that part grows to all.

    Images of equal confidence are added together. See El-Yaniv & Wiener 2010 (risk against coverage).
    """
    order = np.argsort(-outcomes.confidence, kind="stable")
    confidence = outcomes.confidence[order]
    ends = np.append(np.flatnonzero(np.diff(confidence)), len(order) - 1)
    num_right = np.cumsum(outcomes.is_right[order])[ends]
    rows = np.column_stack([(ends + 1) / len(order), num_right / (ends + 1), confidence[ends]])
    return [CoveragePoint(*row) for row in _thinned(rows).tolist()]


def roc_and_precision_recall(
    predictions: Predictions,
) -> tuple[list[RocPoint], list[PrecisionRecallPoint], dict[str, float]]:
    """Return the ROC curve, the precision-recall curve, and the areas `roc_auc` and `average_precision`.

    Of two classes the second is the positive one. Of more classes each is the positive one in turn, and all cases are
    pooled (one against the rest, micro average).

    Returns:
        The first goes from (0, 0) to (1, 1), the second by growing recall. All are empty if the images are of one class
        only.
    """
    probabilities = softmax(predictions.logits, axis=1)
    truth = np.array(predictions.labels)[:, None] == np.array(predictions.classes)
    if len(predictions.classes) == 2:
        probabilities, truth = probabilities[:, 1:], truth[:, 1:]
    score, is_positive = probabilities.ravel(), truth.ravel()
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    found = np.cumsum(is_positive[order])[ends]
    wrong = ends + 1 - found
    if not found[-1] or not wrong[-1]:
        return [], [], {}
    true_rate, false_rate, precision = found / found[-1], wrong / wrong[-1], found / (ends + 1)
    roc = np.vstack([[0.0, 0.0], np.column_stack([false_rate, true_rate])])
    areas = {
        "roc_auc": float(np.trapezoid(roc[:, 1], roc[:, 0])),
        "average_precision": float((np.diff(true_rate, prepend=0.0) * precision).sum()),
    }
    precision_recall = np.column_stack([true_rate, precision])
    return (
        [RocPoint(*row) for row in _thinned(roc).tolist()],
        [PrecisionRecallPoint(*row) for row in _thinned(precision_recall).tolist()],
        areas,
    )


def _thinned(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out rows on the straight line between their neighbours, then thin out as far as a plot shows no gap."""
    steps = np.diff(rows[:, :2], axis=0)
    bends = steps[1:, 0] * steps[:-1, 1] != steps[1:, 1] * steps[:-1, 0]
    kept = rows[np.concatenate([[True], bends, [True]])] if len(rows) > 2 else rows
    return kept[np.unique(np.linspace(0, len(kept) - 1, _MOST_POINTS).round().astype(int))]
