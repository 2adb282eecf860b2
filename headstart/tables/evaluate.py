"""What `evaluate` finds: scores of one track, of its classes, and curves."""

from dataclasses import dataclass
from typing import ClassVar

from headstart.tables.rows import Row

# What `dvc metrics show` shows of a track; all scores are in plots/<track>/scores.csv and diagnostics/.
METRICS = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "log_loss", "num_images")
# Names of scores for people; a score without one is shown by its own name.
SCORE_TITLES = {
    "accuracy": "accuracy",
    "top5_accuracy": "top-5 accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss (nats)",
    "brier": "Brier score (0 to 2)",
    "calibration_error": "calibration error",
    "roc_auc": "area under ROC",
    "average_precision": "average precision",
}


@dataclass(frozen=True)
class ScoreRow(Row):
    """A score of one track on the test images, and on those of them that look like no training image.

    Attributes:
        score: Its name.
        value: On all.
        low: None where it has no interval.
        high: Likewise.
        distinct_value: On those that are distinct from all training images; None where there is none.
        distinct_low: Likewise.
        distinct_high: Likewise.
    """

    score: str
    value: float
    low: float | None
    high: float | None
    distinct_value: float | None
    distinct_low: float | None
    distinct_high: float | None

    repro: ClassVar[str] = "evaluate"


@dataclass(frozen=True)
class ClassScore(Row):
    """How good one track is on one class; None where a number is undefined.

    Attributes:
        name: Of the class.
        num_images: Test images of it.
        num_predicted: Test images that were taken for it.
        precision: Fraction of the latter that are of it.
        recall: Fraction of the former that were found.
        recall_low: Wilson's interval.
        recall_high: Likewise.
        f1: Harmonic mean of precision and recall.
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
    """A bin of confidence with images in it.

    Attributes:
        confidence: Mean probability of the predicted classes.
        accuracy: Of these images.
        accuracy_low: Wilson's interval.
        accuracy_high: Likewise.
        ideal: What the accuracy would be if confidence meant what it says: the confidence.
        num_images: In the bin.
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
    """The accuracy on the most confident part of the test images.

    Attributes:
        coverage: The part.
        accuracy: On it.
        confidence: The least of it.
    """

    coverage: float
    accuracy: float
    confidence: float

    repro: ClassVar[str] = "evaluate"


@dataclass(frozen=True)
class RocPoint(Row):
    """A threshold's two rates."""

    false_positive_rate: float
    true_positive_rate: float

    repro: ClassVar[str] = "evaluate"


@dataclass(frozen=True)
class PrecisionRecallPoint(Row):
    """A threshold's recall and precision."""

    recall: float
    precision: float

    repro: ClassVar[str] = "evaluate"
