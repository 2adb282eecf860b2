"""Curves of one track: reliability, coverage, ROC and precision-recall."""

import numpy as np
from numpy.typing import NDArray

from headstart.tables.evaluate import CoveragePoint, PrecisionRecallPoint, ReliabilityPoint, RocPoint
from headstart.tables.intervals import wilson_interval
from headstart.tables.outcomes import NUM_BINS, Outcomes

_MOST_POINTS = 200


def reliability(outcomes: Outcomes) -> list[ReliabilityPoint]:
    """Return a point for every bin of confidence that has images."""
    bins = outcomes.bins
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
    """Return the accuracy on the most confident images, from few of them to all (El-Yaniv & Wiener 2010).

    Images of equal confidence are added together.
    """
    order = np.argsort(-outcomes.confidence, kind="stable")
    confidence = outcomes.confidence[order]
    ends = np.append(np.flatnonzero(np.diff(confidence)), len(order) - 1)
    num_right = np.cumsum(outcomes.is_right[order])[ends]
    rows = np.column_stack([(ends + 1) / len(order), num_right / (ends + 1), confidence[ends]])
    return [CoveragePoint(*row) for row in _thinned(rows).tolist()]


def roc(outcomes: Outcomes) -> list[RocPoint]:
    """Return the ROC curve from (0, 0) to (1, 1). It is empty if all cases are positive or all are negative.

    `Outcomes.cases` says which class is the positive one.
    """
    true, false = outcomes.positives(np.ones(outcomes.num_images, dtype=np.int64))
    if not true[-1] or not false[-1]:
        return []
    rates = np.vstack([[0.0, 0.0], np.column_stack([false / false[-1], true / true[-1]])])
    return [RocPoint(*row) for row in _thinned(rates).tolist()]


def precision_recall(outcomes: Outcomes) -> list[PrecisionRecallPoint]:
    """Return the precision-recall curve by growing recall. It is empty if all cases are positive or all are negative.

    `Outcomes.cases` says which class is the positive one.
    """
    true, false = outcomes.positives(np.ones(outcomes.num_images, dtype=np.int64))
    if not true[-1] or not false[-1]:
        return []
    rows = np.column_stack([true / true[-1], true / (true + false)])
    return [PrecisionRecallPoint(*row) for row in _thinned(rows).tolist()]


def _thinned(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out rows on the straight line between their neighbours, then keep evenly spaced rows, at most 200."""
    steps = np.diff(rows[:, :2], axis=0)
    bends = steps[1:, 0] * steps[:-1, 1] != steps[1:, 1] * steps[:-1, 0]
    kept = rows[np.concatenate([[True], bends, [True]])] if len(rows) > 2 else rows
    return kept[np.unique(np.linspace(0, len(kept) - 1, _MOST_POINTS).round().astype(int))]
