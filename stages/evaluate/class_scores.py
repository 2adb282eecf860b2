"""The scores of every class, and the confusion matrix that they come from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.tables.evaluate import ClassScore
from headstart.tables.intervals import wilson_interval
from headstart.tables.outcomes import Outcomes


def class_scores(outcomes: Outcomes, classes: Sequence[str]) -> list[ClassScore]:
    """Return the scores of every class, including classes without images.

    Args:
        outcomes: Outcomes of the test images.
        classes: (C,) names in the order of the logits.
    """
    confusion = confusion_matrix(outcomes)
    rows = []
    for number, name in enumerate(classes):
        counts = confusion[number, number], confusion[number].sum(), confusion[:, number].sum()
        right, actual, predicted = (int(count) for count in counts)
        low, high = wilson_interval(right / actual, actual) if actual else (None, None)
        rows.append(
            ClassScore(
                name=name,
                num_images=actual,
                num_predicted=predicted,
                precision=right / predicted if predicted else None,
                recall=right / actual if actual else None,
                recall_low=low,
                recall_high=high,
                f1=2 * right / (actual + predicted) if actual + predicted else None,
            )
        )
    return rows


def confusion_matrix(outcomes: Outcomes) -> NDArray[np.int64]:
    """Return the number of images of each class (rows) that were predicted as each class (columns), (C, C)."""
    num = outcomes.num_classes
    return np.bincount(outcomes.target * num + outcomes.predicted, minlength=num**2).reshape(num, num)
