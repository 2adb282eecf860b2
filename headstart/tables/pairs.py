"""Pairs: what two models predicted for the same images, and whether one of them is really better."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headstart.tables.paired import mcnemar_p, paired_interval
from headstart.tables.predictions import Predictions


@dataclass(frozen=True)
class Pairs:
    """The images that two models tested, M of them, in the order of the second model.

    Attributes:
        before: Predictions of the first model for these images, with the labels of the second.
        after: Predictions of the second model.
        num_only_before: Number of images that only the first model tested.
        num_only_after: Number of images that only the second model tested.
        num_relabelled: Number of the common images whose label was another one for the first model.
    """

    before: Predictions
    after: Predictions
    num_only_before: int
    num_only_after: int
    num_relabelled: int

    @property
    def num_images(self) -> int:
        """Number of common images, M."""
        return len(self.after.digests)

    @cached_property
    def was_right(self) -> NDArray[np.bool_]:
        """(M,) whether the first model is right about each image."""
        return _is_right(self.before)

    @cached_property
    def is_right(self) -> NDArray[np.bool_]:
        """(M,) whether the second model is right about each image."""
        return _is_right(self.after)

    @property
    def newly_right(self) -> NDArray[np.bool_]:
        """(M,) whether only the second model is right about each image."""
        return self.is_right & ~self.was_right

    @property
    def newly_wrong(self) -> NDArray[np.bool_]:
        """(M,) whether only the first model is right about each image."""
        return self.was_right & ~self.is_right

    @property
    def difference(self) -> float:
        """Accuracy of the second model minus that of the first, in [-1, 1]; there must be an image."""
        return (int(self.newly_right.sum()) - int(self.newly_wrong.sum())) / self.num_images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference (see `paired_interval`)."""
        return paired_interval(self.num_images, int(self.newly_wrong.sum()), int(self.newly_right.sum()))

    @property
    def p_value(self) -> float:
        """The two-sided p-value of the exact McNemar test."""
        return mcnemar_p(int(self.newly_wrong.sum()), int(self.newly_right.sum()))


def pair(before: Predictions, after: Predictions) -> Pairs:
    """Pair the images that both models tested. Right is what the label of the second says."""
    rows = {digest: row for row, digest in enumerate(before.digests)}
    chosen = [(rows[digest], row) for row, digest in enumerate(after.digests) if digest in rows]
    before_M, after_M = ([pair[side] for pair in chosen] for side in (0, 1))
    labels = [after.labels[row] for row in after_M]
    return Pairs(
        before=take(before, before_M, labels),
        after=take(after, after_M, labels),
        num_only_before=len(before.digests) - len(chosen),
        num_only_after=len(after.digests) - len(chosen),
        num_relabelled=sum(before.labels[row] != label for row, label in zip(before_M, labels, strict=True)),
    )


def take(predictions: Predictions, rows: Sequence[int], labels: Sequence[str]) -> Predictions:
    """Return some rows of predictions, with other labels.

    Args:
        predictions: Predictions of N images.
        rows: (M,) numbers of rows.
        labels: (M,) names of classes. A class may be unknown to the model.
    """
    digests, paths = ([column[row] for row in rows] for column in (predictions.digests, predictions.paths))
    return Predictions(digests, paths, labels, predictions.classes, predictions.logits[list(rows)])


def _is_right(predictions: Predictions) -> NDArray[np.bool_]:
    pairs = zip(predictions.predicted, predictions.labels, strict=True)
    return np.array([name == label for name, label in pairs], dtype=bool)
