"""Metrics: the scores of one track on the test images.

To add a metric, write a function and add an entry to `METRICS`. The tables, `dvc metrics show`, the comparison of the
tracks, the report and the model cards follow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.tables.outcomes import Outcomes

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """A score of one track.

    Attributes:
        name: Name in files.
        title: Name for people, with the unit if there is one.
        better: Whether a `higher` or a `lower` score is better.
        interval: How the 95 % confidence interval is made. `wilson`: Wilson's interval, for a fraction of the images.
            `bootstrap`: from resamples within each class. `none`: there is no interval.
        function: Takes the outcomes and how often each image counts, (N,), and returns the score; nan if the score is
            undefined. Bootstrap calls it once for each resample, so it must be fast.
        is_shown: Whether `dvc metrics show` shows the metric, and `compare` subtracts it. A test holds that the table
            of `dvc metrics show` has at most 140 columns; it has 132 now.
        fewest_classes: The metric is left out if the model has fewer classes.
    """

    name: str
    title: str
    better: Literal["higher", "lower"]
    interval: Literal["wilson", "bootstrap", "none"]
    function: Callable[[Outcomes, Counts], float]
    is_shown: bool = False
    fewest_classes: int = 2


def _accuracy(outcomes: Outcomes, counts: Counts) -> float:
    return float(counts @ outcomes.is_right / counts.sum())


def _top5_accuracy(outcomes: Outcomes, counts: Counts) -> float:
    return float(counts @ (outcomes.rank < 5) / counts.sum())


def _balanced_accuracy(outcomes: Outcomes, counts: Counts) -> float:
    """Return the mean recall of the classes that occur."""
    right, actual, _ = _count_by_class(outcomes, counts)
    occurs = actual > 0
    return float((right[occurs] / actual[occurs]).mean())


def _macro_f1(outcomes: Outcomes, counts: Counts) -> float:
    """Return the mean F1 of the classes that occur or are predicted."""
    right, actual, predicted = _count_by_class(outcomes, counts)
    total = actual + predicted
    return float((2 * right[total > 0] / total[total > 0]).mean())


def _count_by_class(outcomes: Outcomes, counts: Counts) -> tuple[Counts, Counts, Counts]:
    """Return the numbers of right images, of images, and of predictions of each class, (C,) each."""
    num = outcomes.num_classes
    right = np.bincount(outcomes.target, counts * outcomes.is_right, minlength=num)
    return right, np.bincount(outcomes.target, counts, num), np.bincount(outcomes.predicted, counts, num)


def _brier(outcomes: Outcomes, counts: Counts) -> float:
    """Return the Brier score (Brier 1950)."""
    return float(counts @ outcomes.brier / counts.sum())


def _roc_auc(outcomes: Outcomes, counts: Counts) -> float:
    true, false = outcomes.positives(counts)
    if not true[-1] or not false[-1]:
        return np.nan
    true_rate, false_rate = np.append(0.0, true / true[-1]), np.append(0.0, false / false[-1])
    return float(np.trapezoid(true_rate, false_rate))


def _average_precision(outcomes: Outcomes, counts: Counts) -> float:
    """Return the precision at each threshold, averaged by the recall that the threshold adds."""
    true, false = outcomes.positives(counts)
    if not true[-1] or not false[-1]:
        return np.nan
    return float((np.diff(true / true[-1], prepend=0.0) * (true / (true + false))).sum())


# In the order of the tables. Calibration error has no bootstrap interval: drawing with replacement adds noise, and the
# metric would count the noise as miscalibration. Top-5 accuracy needs 11 classes: with fewer, guessing is right half
# of the time.
METRICS = (
    Metric("accuracy", "accuracy", "higher", "wilson", _accuracy, is_shown=True),
    Metric("top5_accuracy", "top-5 accuracy", "higher", "wilson", _top5_accuracy, fewest_classes=11),
    Metric("balanced_accuracy", "balanced accuracy", "higher", "bootstrap", _balanced_accuracy),
    Metric("macro_f1", "macro F1", "higher", "bootstrap", _macro_f1, is_shown=True),
    Metric("log_loss", "log loss (nats)", "lower", "bootstrap", Outcomes.mean_log_loss, is_shown=True),
    Metric("brier", "Brier score (0 to 2)", "lower", "bootstrap", _brier),
    Metric("calibration_error", "calibration error", "lower", "none", Outcomes.calibration_error),
    Metric("roc_auc", "area under ROC", "higher", "none", _roc_auc),
    Metric("average_precision", "average precision", "higher", "none", _average_precision),
)
