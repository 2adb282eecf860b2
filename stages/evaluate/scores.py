"""The scores of one track on the test images, each with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from headstart.tables.classes import class_numbers
from headstart.tables.evaluate import ClassScore
from headstart.tables.intervals import percentile_interval, resamples, wilson_interval
from headstart.tables.predictions import Predictions

NUM_BINS = 15
TOP = 5
_FEWEST_OF_A_CLASS = 5
# With fewer classes guessing would be among the first five half of the time.
_TOP_MEANS_SOMETHING = 11


@dataclass(frozen=True)
class Outcomes:
    """What the scores need to know about each test image.

    Attributes:
        target: (N,) number of the true class.
        predicted: (N,) number of the class with the largest logit (the first of equal ones).
        rank: (N,) number of classes that are more probable than the true one.
        confidence: (N,) probability of the predicted class.
        log_loss: (N,) minus log of the true class's probability, in nats.
        brier: (N,) squared distance of the probabilities from the truth, 0 to 2.
    """

    target: NDArray[np.int64]
    predicted: NDArray[np.int64]
    rank: NDArray[np.int64]
    confidence: NDArray[np.float64]
    log_loss: NDArray[np.float64]
    brier: NDArray[np.float64]

    @classmethod
    def of(cls, predictions: Predictions) -> "Outcomes":
        """Return the outcomes of predictions, whose logits are calibrated."""
        target = class_numbers(predictions.labels, predictions.classes)
        rows = np.arange(len(target))
        log_probabilities = log_softmax(predictions.logits, axis=1)
        probabilities = np.exp(log_probabilities)
        own = predictions.logits[rows, target]
        brier = (probabilities**2).sum(axis=1) - 2 * probabilities[rows, target] + 1
        return cls(
            target=target,
            predicted=predictions.logits.argmax(axis=1),
            rank=(predictions.logits > own[:, None]).sum(axis=1),
            confidence=probabilities.max(axis=1),
            log_loss=-log_probabilities[rows, target],
            brier=np.maximum(brier, 0.0),
        )

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """(N,) whether the predicted class is the true one."""
        return self.target == self.predicted

    def of_rows(self, chosen: NDArray[np.bool_]) -> "Outcomes":
        """Return the outcomes of some rows, (N,)."""
        return Outcomes(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


class Score(NamedTuple):
    """A number with its 95 % interval.

    Attributes:
        value: The score on all rows.
        low: Lower end of the interval; None if there is none.
        high: Upper end of the interval; None if there is none.
    """

    value: float
    low: float | None
    high: float | None


def score(outcomes: Outcomes, num_classes: int, num_resamples: int, seed: int) -> dict[str, Score]:
    """Return every score of one track.

    accuracy: fraction right, with Wilson's interval; top5_accuracy (of more than ten classes): fraction whose class is
    among the five most probable ones. balanced_accuracy: mean over the classes that occur of the fraction found.
    macro_f1: mean F1 over the classes that occur or are predicted. log_loss, in nats, and brier (Brier 1950), 0 to 2,
    are means. Their intervals are bootstrapped within each class. They have none if a class has fewer than five test
    images, because draws among so few differ too little. calibration_error: mean distance between confidence and
    accuracy over 15 bins of confidence (ECE; Guo et al. 2017). It has no interval, because draws with replacement add
    noise that it would count as miscalibration.

    Args:
        outcomes: Outcomes of at least one image.
        num_classes: Number of classes of the model.
        num_resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
    """
    num = len(outcomes.target)
    values = _scores(outcomes, num_classes, np.ones(num, dtype=np.int64))
    scores = {name: Score(value, None, None) for name, value in values.items()}
    if np.unique(outcomes.target, return_counts=True)[1].min() >= _FEWEST_OF_A_CLASS:
        draws = [_scores(outcomes, num_classes, counts) for counts in resamples(outcomes.target, num_resamples, seed)]
        for name, value in values.items():
            scores[name] = Score(value, *percentile_interval([draw[name] for draw in draws]))
    for name in {"accuracy", "top5_accuracy"} & set(scores):
        scores[name] = Score(values[name], *wilson_interval(values[name], num))
    scores["calibration_error"] = Score(calibration_error(outcomes), None, None)
    return scores


def calibration_error(outcomes: Outcomes) -> float:
    """Return the distance between mean confidence and accuracy of each bin, averaged over the images."""
    gaps = np.bincount(bins_of(outcomes.confidence), outcomes.confidence - outcomes.is_right, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(outcomes.target))


def bins_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the bin of each confidence. Bins are equally wide and include their upper edge."""
    return np.searchsorted(np.linspace(0, 1, NUM_BINS + 1)[1:-1], confidence)


def class_scores(outcomes: Outcomes, classes: Sequence[str]) -> list[ClassScore]:
    """Return the scores of every class, including classes without images."""
    confusion = confusion_matrix(outcomes, len(classes))
    rows = []
    for number, name in enumerate(classes):
        counts = confusion[number, number], confusion[number].sum(), confusion[:, number].sum()
        hits, actual, guessed = (int(count) for count in counts)
        low, high = wilson_interval(hits / actual, actual) if actual else (None, None)
        rows.append(
            ClassScore(
                name=name,
                num_images=actual,
                num_predicted=guessed,
                precision=hits / guessed if guessed else None,
                recall=hits / actual if actual else None,
                recall_low=low,
                recall_high=high,
                f1=2 * hits / (actual + guessed) if actual + guessed else None,
            )
        )
    return rows


def confusion_matrix(outcomes: Outcomes, num_classes: int) -> NDArray[np.int64]:
    """Return the number of images of each class (rows) that were predicted as each class (columns), (C, C)."""
    cells = outcomes.target * num_classes + outcomes.predicted
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def _scores(outcomes: Outcomes, num_classes: int, counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the scores with each row counted so often. scikit-learn's metrics would take a minute for 1,000 draws."""
    right = counts * outcomes.is_right
    actual = np.bincount(outcomes.target, counts, minlength=num_classes)
    guessed = np.bincount(outcomes.predicted, counts, minlength=num_classes)
    hits = np.bincount(outcomes.target, right, minlength=num_classes)
    seen = actual + guessed > 0
    num = counts.sum()
    top = {"top5_accuracy": float(counts @ (outcomes.rank < TOP) / num)} if num_classes >= _TOP_MEANS_SOMETHING else {}
    return {
        "accuracy": float(right.sum() / num),
        **top,
        "balanced_accuracy": float((hits[actual > 0] / actual[actual > 0]).mean()),
        "macro_f1": float((2 * hits[seen] / (actual + guessed)[seen]).mean()),
        "log_loss": float(counts @ outcomes.log_loss / num),
        "brier": float(counts @ outcomes.brier / num),
    }
