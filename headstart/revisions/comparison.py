"""The comparison of one track at two revisions, on the test images of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.tables.intervals import CONFIDENCE, can_resample, percentile_interval, resamples
from headstart.tables.outcomes import Outcomes
from headstart.tables.pairs import Pairs, take
from headstart.tables.predictions import Predictions


@dataclass(frozen=True)
class Difference:
    """A score at two revisions.

    Attributes:
        before: Score of the first.
        after: Score of the second.
        difference: Second minus first.
        low: Lower end of the 95 % interval of the difference; None if there is none.
        high: Upper end of the interval.
    """

    before: float
    after: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ClassChange:
    """What changed for the test images of one class.

    Attributes:
        name: Name of the class.
        num_images: Number of test images of this class that both revisions have.
        num_right_before: Number of them that the first gets right.
        num_right_after: Number of them that the second gets right.
        newly_right: Number of them that only the second gets right.
        newly_wrong: Number of them that only the first gets right.
    """

    name: str
    num_images: int
    num_right_before: int
    num_right_after: int
    newly_right: int
    newly_wrong: int

    @property
    def is_moved(self) -> bool:
        """Whether only one revision is right about some image of the class."""
        return self.newly_right + self.newly_wrong > 0


@dataclass(frozen=True)
class ImageChange:
    """A test image that only one of the revisions gets right.

    Attributes:
        digest: sha256 of the file.
        path: Path of the image, as in the index.
        label: Name of its class.
        before: Class that the first predicts.
        confidence_before: Probability of that class by the first, in [0, 1].
        after: Class that the second predicts.
        confidence_after: Probability of that class by the second, in [0, 1].
    """

    digest: str
    path: str
    label: str
    before: str
    confidence_before: float
    after: str
    confidence_after: float


@dataclass(frozen=True)
class TrackComparison:
    """One track at two revisions.

    Attributes:
        track: Name of the track.
        num_images: Number of test images that both have. All scores are of these.
        num_only_before: Number of test images that only the first has.
        num_only_after: Number of test images that only the second has.
        num_relabelled: Number of the common images with another label at the first. Right is what the second says.
        num_new_classes: Number of the common images whose class one of them does not know. They count in the accuracy
            only: a class that is unknown has no probability.
        accuracy: Accuracy, with Agresti and Min's interval of the difference; None without a common image.
        p_value: Two-sided p-value of the exact McNemar test; None without a common image.
        log_loss: Log loss in nats, with a paired bootstrap interval; None without an image of a class that both know.
        calibration_error: Expected calibration error (ECE), likewise.
        classes: The classes of the common images, by name.
        newly_right: Images that only the second gets right, in its order.
        newly_wrong: Images that only the first gets right.
    """

    track: str
    num_images: int
    num_only_before: int
    num_only_after: int
    num_relabelled: int
    num_new_classes: int
    accuracy: Difference | None
    p_value: float | None
    log_loss: Difference | None
    calibration_error: Difference | None
    classes: Sequence[ClassChange]
    newly_right: Sequence[ImageChange]
    newly_wrong: Sequence[ImageChange]

    @property
    def verdict(self) -> str:
        """`better` or `worse` if the p-value is below 0.05, else `no clear difference`; about the second revision."""
        if self.p_value is None or self.accuracy is None:
            return "nothing to compare"
        if self.p_value >= 1 - CONFIDENCE:
            return "no clear difference"
        return "better" if self.accuracy.difference > 0 else "worse"


def compare_track(track: str, pairs: Pairs, num_resamples: int, seed: int) -> TrackComparison:
    """Compare one track at two revisions.

    Args:
        track: Name of the track.
        pairs: Its predictions at both.
        num_resamples: Number of bootstrap resamples. Each draws test images with replacement within each class, the
            same for both revisions.
        seed: Seed of the resamples.
    """
    known = [
        row
        for row, label in enumerate(pairs.after.labels)
        if label in pairs.before.classes and label in pairs.after.classes
    ]
    log_loss, calibration_error = _probability_scores(pairs, known, num_resamples, seed)
    return TrackComparison(
        track=track,
        num_images=pairs.num_images,
        num_only_before=pairs.num_only_before,
        num_only_after=pairs.num_only_after,
        num_relabelled=pairs.num_relabelled,
        num_new_classes=pairs.num_images - len(known),
        accuracy=_accuracy(pairs) if pairs.num_images else None,
        p_value=pairs.p_value if pairs.num_images else None,
        log_loss=log_loss,
        calibration_error=calibration_error,
        classes=_classes(pairs),
        newly_right=_images(pairs, pairs.newly_right),
        newly_wrong=_images(pairs, pairs.newly_wrong),
    )


def _accuracy(pairs: Pairs) -> Difference:
    before, after = (float(right.mean()) for right in (pairs.was_right, pairs.is_right))
    return Difference(before, after, pairs.difference, *pairs.interval)


def _probability_scores(
    pairs: Pairs, known: Sequence[int], num_resamples: int, seed: int
) -> tuple[Difference | None, Difference | None]:
    """Return the log loss and the calibration error on the rows whose class both revisions know."""
    if not known:
        return None, None
    labels = [pairs.after.labels[row] for row in known]
    before, after = (Outcomes.of(take(one, known, labels)) for one in (pairs.before, pairs.after))
    scores = (Outcomes.mean_log_loss, Outcomes.calibration_error)
    once = np.ones(len(known), dtype=np.int64)
    draws = [
        [score(after, counts) - score(before, counts) for score in scores]
        for counts in (resamples(after.target, num_resamples, seed) if can_resample(after.target) else ())
    ]
    found = []
    for place, score in enumerate(scores):
        ends = percentile_interval([draw[place] for draw in draws]) if draws else (None, None)
        values = score(before, once), score(after, once)
        found.append(Difference(*values, values[1] - values[0], *ends))
    return found[0], found[1]


def _classes(pairs: Pairs) -> list[ClassChange]:
    labels = np.array(pairs.after.labels, dtype=object)
    changes = []
    for name in sorted(set(pairs.after.labels)):
        own = labels == name
        columns = (own, own & pairs.was_right, own & pairs.is_right, own & pairs.newly_right, own & pairs.newly_wrong)
        changes.append(ClassChange(name, *(int(column.sum()) for column in columns)))
    return changes


def _images(pairs: Pairs, chosen: NDArray[np.bool_]) -> list[ImageChange]:
    before, after = (_answers(one) for one in (pairs.before, pairs.after))
    found = pairs.after
    return [
        ImageChange(found.digests[row], found.paths[row], found.labels[row], *before[row], *after[row])
        for row in np.flatnonzero(chosen).tolist()
    ]


def _answers(predictions: Predictions) -> list[tuple[str, float]]:
    confidences = predictions.probabilities.max(axis=1).tolist() if len(predictions.digests) else []
    return list(zip(predictions.predicted, confidences, strict=True))
