"""Predictions: the answer of a model for one image, and the rule that turns an answer into `unknown`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from headstart.artifacts.features import Rows
from headstart.artifacts.references import References

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Neighbour:
    """A training image whose embedding is close to that of the predicted image.

    Attributes:
        path: Path as in the index that the model was trained on.
        digest: sha256 of the file.
        label: Class of the training image.
        similarity: Cosine of the two embeddings, in [-1, 1].
    """

    path: str
    digest: str
    label: str
    similarity: float


@dataclass(frozen=True)
class Prediction:
    """The answer of a model for one image.

    Attributes:
        name: The image's path as given, or its position, such as `#0`, if it has no path.
        status: `ok`; `repaired`, as in the index; `unknown`, if the answer misses the thresholds of the requested
            coverage; or `quarantined`, if the image cannot be read or decoded, in which case there is no answer.
        reason: What was repaired, why the answer is `unknown`, or why the image cannot be read.
        classes: (C,) names of the classes in the order of the logits.
        logits: float64 (C,), calibrated; None if quarantined.
        nearest: The nearest training images, nearest first; empty if they were not requested.
    """

    name: str
    status: str
    reason: str
    classes: Sequence[str]
    logits: NDArray[np.float64] | None
    nearest: Sequence[Neighbour] = ()

    @property
    def probabilities(self) -> NDArray[np.float64] | None:
        """Calibrated probabilities (C,) in the order of the classes, with sum 1; None if quarantined."""
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
        """Return the `num` most probable classes with their probabilities. Ties keep the order of the classes."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:num]
        return [(self.classes[column], float(self.probabilities[column])) for column in order]


def apply_thresholds(prediction: Prediction, thresholds: tuple[float, float]) -> Prediction:
    """Return the prediction, with status `unknown` if it misses a threshold.

    Args:
        prediction: An answer with its nearest training image.
        thresholds: Minimum confidence and minimum similarity to the nearest training image.
    """
    # The thresholds were found in float32, so compare in float32.
    confidence, similarity = float(np.float32(prediction.confidence)), prediction.nearest[0].similarity
    reasons = [prediction.reason] * bool(prediction.reason)
    if not similarity >= thresholds[1]:
        reasons.append(f"unlike all training images: similarity {similarity:.3f}, needs {thresholds[1]:.3f}")
    if not confidence >= thresholds[0]:
        reasons.append(f"not sure enough: confidence {confidence:.3f}, needs {thresholds[0]:.3f}")
    if len(reasons) == bool(prediction.reason):
        return prediction
    return replace(prediction, status=UNKNOWN, reason=", ".join(reasons))


def find_nearest(references: References, embeddings: Rows, num: int) -> list[list[Neighbour]]:
    """Return the nearest training images of each image, the nearest first.

    Args:
        references: References of a bundle.
        embeddings: (N, views, dim).
        num: Number of training images for each image.
    """
    positions, similarities = references.nearest(embeddings, num)
    return [
        [
            Neighbour(
                references.paths[position],
                references.digests[position],
                references.labels[position],
                float(similarity),
            )
            for position, similarity in zip(*of_image, strict=True)
        ]
        for of_image in zip(positions, similarities, strict=True)
    ]


def utf8_text(text: str) -> str:
    r"""Return text that can be encoded as UTF-8.

    Python represents a byte of a file name that is not UTF-8 by half of a surrogate pair, which no table, page or JSON
    text can hold. Such a byte is shown as `\xff`, any other half of a pair as `\ud800`.
    """
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # not from a file name
        return text.encode("utf-8", "backslashreplace").decode()
