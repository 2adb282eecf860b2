"""Predictions: what a model says of an image, and when it says that it does not know."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Neighbour:
    """A training image that looks like the one in question to the model.

    Attributes:
        path: As in the index that it was trained on.
        digest: sha256 of the file.
        label: Its class.
        similarity: Cosine of both embeddings, in [-1, 1].
    """

    path: str
    digest: str
    label: str
    similarity: float


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        name: The path as it was given; of images without one their position, as `#0`.
        status: `ok`; `repaired`, as in the index; `unknown`: not answered for the coverage that was asked for; or
            `quarantined`: it gave no picture, and there is no prediction.
        reason: What was repaired, why it is unknown, or why there is no picture.
        classes: (C,) in the order of the logits.
        logits: (C,) float64, calibrated; None if quarantined.
        nearest: The training images that it is most like, if they were asked for, nearest first.
    """

    name: str
    status: str
    reason: str
    classes: Sequence[str]
    logits: NDArray[np.float64] | None
    nearest: Sequence[Neighbour] = ()

    @property
    def probabilities(self) -> NDArray[np.float64] | None:
        """(C,) in the order of the classes, calibrated, with sum 1; None if quarantined."""
        return None if self.logits is None else softmax(self.logits)

    @property
    def predicted(self) -> str:
        """The most probable class, or `unknown`; empty if quarantined."""
        if self.logits is None:
            return ""
        return UNKNOWN if self.status == UNKNOWN else self.classes[int(self.logits.argmax())]

    @property
    def confidence(self) -> float | None:
        """The calibrated probability of the most probable class, in [0, 1]; None if quarantined."""
        return None if self.probabilities is None else float(self.probabilities.max())

    def top(self, num: int) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities; of equal ones the first in order first."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:num]
        return [(self.classes[column], float(self.probabilities[column])) for column in order]


def as_utf8(text: str) -> str:
    """Return text that a page or JSON can hold: names of files may have halves of characters in them."""
    return text.encode("utf-8", "backslashreplace").decode()


def judge(one: Prediction, thresholds: tuple[float, float]) -> Prediction:
    """Return a prediction, `unknown` if it does not reach the thresholds.

    Args:
        one: With its nearest training image.
        thresholds: Least confidence and least similarity.
    """
    # As the thresholds were found: in float32.
    confidence, similarity = float(np.float32(one.confidence)), one.nearest[0].similarity
    why = [one.reason] * bool(one.reason)
    if not similarity >= thresholds[1]:
        why.append(f"unlike all training images: similarity {similarity:.3f}, needs {thresholds[1]:.3f}")
    if not confidence >= thresholds[0]:
        why.append(f"not sure enough: confidence {confidence:.3f}, needs {thresholds[0]:.3f}")
    return replace(one, status=UNKNOWN, reason=", ".join(why)) if len(why) > bool(one.reason) else one
