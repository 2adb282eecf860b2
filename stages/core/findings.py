"""Findings: what rooms find out besides predictions, as rows of tables that `dvc plots` and other rooms read.

Scores are fractions in [0, 1] unless said otherwise; `_low` and `_high` are the ends of 95 % intervals.
"""

from dataclasses import dataclass
from typing import ClassVar

from stages.core.tables import Row


@dataclass(frozen=True)
class TapScore(Row):
    """How good one tap is, by ridge regression cross-validated on the training images.

    Attributes:
        depth: 1 for the first tap.
        tap: Its name.
        accuracy: Of held-out images.
        accuracy_low: Wilson's interval.
        accuracy_high: Likewise.
        log_loss: Calibrated, in nats.
        c: Strength.
        chosen: 1 for the tap that the head reads, else 0.
    """

    depth: int
    tap: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    c: float
    chosen: int

    repro: ClassVar[str] = "head"


@dataclass(frozen=True)
class LearningPoint(Row):
    """An accuracy, cross-validated, at a number of training images.

    Attributes:
        num_images: That were trained on (at most; folds differ by a few).
        accuracy: Mean over the folds.
        accuracy_low: Student's interval over the folds.
        accuracy_high: Likewise.
    """

    num_images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float

    repro: ClassVar[str] = "head"


@dataclass(frozen=True)
class LabelSuspect(Row):
    """A training image whose label the folds find less probable than another class.

    Attributes:
        digest: sha256 of the file.
        path: As in the index.
        label: That it has.
        probability: Of that label.
        preferred: The most probable class.
        preferred_probability: Of that class.
    """

    digest: str
    path: str
    label: str
    probability: float
    preferred: str
    preferred_probability: float

    repro: ClassVar[str] = "head"


@dataclass(frozen=True)
class NearDuplicate(Row):
    """A reported image and a training image that look alike.

    Attributes:
        digest: Of the reported image.
        path: As in the index.
        label: Its class.
        training_digest: Of the training image.
        training_path: Likewise.
        training_label: Likewise.
        similarity: Cosine of their embeddings.
    """

    digest: str
    path: str
    label: str
    training_digest: str
    training_path: str
    training_label: str
    similarity: float

    repro: ClassVar[str] = "head"


@dataclass(frozen=True)
class ScoreRow(Row):
    """A score of one track on the reported images, and on those of them that look like no training image.

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
        num_images: Reported images of it.
        num_predicted: Reported images that were taken for it.
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
    """The accuracy on the most confident part of the reported images.

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


@dataclass(frozen=True)
class ProjectedImage(Row):
    """Where an image's embedding lies in two dimensions.

    Attributes:
        digest: sha256 of the file.
        pca_x: First principal component.
        pca_y: Second principal component.
        tsne_x: By t-SNE.
        tsne_y: Likewise.
    """

    digest: str
    pca_x: float
    pca_y: float
    tsne_x: float
    tsne_y: float

    repro: ClassVar[str] = "projection"


@dataclass(frozen=True)
class EpochPoint(Row):
    """An epoch of fine-tuning on the inner validation; the start's scores stand beside every epoch's, for the plot.

    Attributes:
        epoch: 0 is the start.
        accuracy: On the inner validation.
        start_accuracy: Of the start.
        log_loss: Calibrated, in nats.
        start_log_loss: Of the start.
        training_loss: Mean over the epoch; None for the start.
        rate_factor: Of the learning rates, at the end of the epoch.
        kept: 1 for the epoch that is kept, else 0.
    """

    epoch: int
    accuracy: float
    start_accuracy: float
    log_loss: float
    start_log_loss: float
    training_loss: float | None
    rate_factor: float
    kept: int

    repro: ClassVar[str] = "finetune"
