"""The tables that `evaluate` writes: scores of one track, scores of each class, and curves.

All intervals are of 95 %.
"""

from dataclasses import dataclass
from typing import ClassVar

from headstart.tables.rows import Row


@dataclass(frozen=True)
class ScoreRow(Row):
    """A score of one track on all test images, and on the distinct ones, which look like no training image.

    Attributes:
        score: Name of the metric, as in `metrics/<track>.json`.
        title: Name of the metric for people, with its unit.
        better: `higher` or `lower`: which scores are better.
        value: Score on all test images.
        low: Lower end of its interval; None if there is none.
        high: Upper end of its interval; None if there is none.
        distinct_value: Score on the distinct test images; None if there are none or the score is undefined for them.
        distinct_low: Lower end of its interval; None if there is none.
        distinct_high: Upper end of its interval; None if there is none.
    """

    score: str
    title: str
    better: str
    value: float
    low: float | None
    high: float | None
    distinct_value: float | None
    distinct_low: float | None
    distinct_high: float | None

    repro: ClassVar[str] = "evaluate"


@dataclass(frozen=True)
class ClassScore(Row):
    """The scores of one track on one class.

    Attributes:
        name: Name of the class.
        num_images: Test images of the class.
        num_predicted: Test images that were predicted as the class.
        precision: Fraction of the predicted images that are of the class; None if there are none.
        recall: Fraction of the images of the class that were predicted as it; None if there are none.
        recall_low: Lower end of Wilson's interval of the recall; None if there is none.
        recall_high: Upper end of the interval of the recall; None if there is none.
        f1: Harmonic mean of precision and recall; None if the class has no images and was never predicted.
    """

    name: str
    num_images: int
    num_predicted: int
    precision: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    f1: float | None

    repro: ClassVar[str] = "evaluate"


@dataclass(frozen=True)
class ReliabilityPoint(Row):
    """The test images whose confidence lies in one bin. Confidence is the probability of the predicted class.

    Attributes:
        confidence: Mean confidence of these images.
        accuracy: Fraction of these images that are right.
        accuracy_low: Lower end of Wilson's interval of the accuracy.
        accuracy_high: Upper end of the interval of the accuracy.
        ideal: The accuracy of a perfectly calibrated model: the mean confidence.
        num_images: Number of these images.
    """

    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    ideal: float
    num_images: int

    repro: ClassVar[str] = "evaluate"


@dataclass(frozen=True)
class CoveragePoint(Row):
    """The accuracy on the most confident test images.

    Attributes:
        coverage: Fraction of all test images that these are.
        accuracy: Fraction of these images that are right.
        confidence: The lowest confidence among these images.
    """

    coverage: float
    accuracy: float
    confidence: float

    repro: ClassVar[str] = "evaluate"


@dataclass(frozen=True)
class RocPoint(Row):
    """The false and the true positive rate at one threshold of probability."""

    false_positive_rate: float
    true_positive_rate: float

    repro: ClassVar[str] = "evaluate"


@dataclass(frozen=True)
class PrecisionRecallPoint(Row):
    """The recall and the precision at one threshold of probability."""

    recall: float
    precision: float

    repro: ClassVar[str] = "evaluate"
