"""What `head` finds besides predictions: layer scores, a learning curve, doubtful labels, near-duplicates, the pool."""

from dataclasses import dataclass
from typing import ClassVar

from headstart.tables.rows import Row


@dataclass(frozen=True)
class LayerScore(Row):
    """The score of a set of layers: ridge regression, cross-validated on the training images.

    Attributes:
        place: Place of the row, from 1. Single layers come first, by depth, then the sets, by their numbers of columns.
        layers: Name of the layer, or the names of several, joined by " + ".
        num_layers: Number of these layers.
        num_columns: Number of values of their embeddings together.
        accuracy: Fraction of the images that the fit without their fold classifies correctly.
        accuracy_low: Lower end of Wilson's 95 % interval of the accuracy.
        accuracy_high: Upper end of this interval.
        log_loss: Mean log loss of the same images after calibration, in nats.
        c: Inverse regularisation strength that was chosen for these layers.
        chosen: 1 for the layers that the head reads, 0 for all others.
    """

    place: int
    layers: str
    num_layers: int
    num_columns: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    c: float
    chosen: int

    repro: ClassVar[str] = "head"


@dataclass(frozen=True)
class LearningPoint(Row):
    """A point of the learning curve: the cross-validated accuracy of fits on so many training images.

    Attributes:
        num_images: Number of images that each fit used. At the last point, folds that have a few more use all of them.
        accuracy: Mean accuracy over the folds.
        accuracy_low: Lower end of Student's 95 % interval over the folds.
        accuracy_high: Upper end of this interval.
    """

    num_images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float

    repro: ClassVar[str] = "head"


@dataclass(frozen=True)
class LabelSuspect(Row):
    """A training image for which the fit without its fold finds another class more probable than the label.

    Attributes:
        digest: sha256 of the file.
        path: Path of the image, as in the index.
        label: Label of the image.
        probability: Probability of the label, in [0, 1].
        preferred: Name of the most probable class.
        preferred_probability: Probability of this class, in [0, 1].
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
        digest: sha256 of the test image's file.
        path: Path of the test image, as in the index.
        label: Label of the test image.
        training_digest: sha256 of the training image's file.
        training_path: Path of the training image, as in the index.
        training_label: Label of the training image.
        similarity: Cosine similarity of their embeddings, at most 1.
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
class PoolPrediction(Row):
    """The two most probable classes of an image that has no label.

    Attributes:
        digest: sha256 of the file.
        path: Path of the image, as in the index.
        predicted: Name of the most probable class.
        probability: Probability of this class, in [0, 1].
        second: Name of the second most probable class.
        second_probability: Probability of this class, in [0, 1].
    """

    digest: str
    path: str
    predicted: str
    probability: float
    second: str
    second_probability: float

    repro: ClassVar[str] = "head"

    @property
    def doubt(self) -> float:
        """Return 1 less the margin between both classes, in [0, 1]: 1 if they are equally probable."""
        return 1 - (self.probability - self.second_probability)


@dataclass(frozen=True)
class NextToLabel(Row):
    """An image without a label whose label would help, best labelled in the order of the places.

    Attributes:
        place: Place of the row, from 1.
        digest: sha256 of the file.
        path: Path of the image, as in the index.
        predicted: Name of the most probable class.
        probability: Probability of this class, in [0, 1].
        score: How much the label would help, in [0, 1]: the doubt of the image, times the fraction of the doubt of all
            candidates that lies near it and near no image before it.
    """

    place: int
    digest: str
    path: str
    predicted: str
    probability: float
    score: float

    repro: ClassVar[str] = "head"
