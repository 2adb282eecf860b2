"""What `head` finds besides predictions: the score of each layer, a learning curve, images to look at."""

from dataclasses import dataclass
from typing import ClassVar

from headstart.tables.rows import Row


@dataclass(frozen=True)
class LayerScore(Row):
    """How good one layer is, by ridge regression cross-validated on the training images.

    Attributes:
        depth: 1 for the first layer.
        layer: Its name.
        accuracy: Of held-out images.
        accuracy_low: Wilson's interval.
        accuracy_high: Likewise.
        log_loss: Calibrated, in nats.
        c: Strength.
        chosen: 1 for the layer that the head reads, else 0.
    """

    depth: int
    layer: str
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
    """A test image and a training image that look alike.

    Attributes:
        digest: Of the test image.
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
