"""Curves: how good each tap is, and how much more images would help, by ridge regression on training rows alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from stages.core.linear.designs import Designs
from stages.core.linear.rows import Mask

NUM_SIZES = 7
CONFIDENCE = 0.95


@dataclass(frozen=True)
class CurvePoint:
    """An accuracy with its interval, at a number of training images.

    Attributes:
        num_images: That were trained on (at most; folds differ by a few).
        accuracy: Mean over the folds, a fraction.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    num_images: int
    accuracy: float
    low: float
    high: float


def learning_curve(designs: Designs, c: float, seed: int) -> list[CurvePoint]:
    """Return the accuracy at several numbers of training images, each a fixed multiple of the one before.

    For every fold the other folds' rows are put in a random order in which every beginning has its share of each class,
    and beginnings of it are fitted and scored on the fold. The interval is Student's over the folds, so it holds both
    draws: which images were trained on and which were scored.

    Args:
        designs: Of the tap.
        c: Strength of the ridge regression.
        seed: Of the orders.
    """
    rows, targets = designs.rows, designs.targets
    num_all = int(min((rows.folds != fold).sum() for fold in range(designs.num_folds)))
    smallest = min(max(targets.num_classes, num_all // 64, 2), num_all)
    sizes = sorted({int(size) for size in np.geomspace(smallest, num_all, NUM_SIZES)})

    def accuracies_of(fold: int) -> list[float]:
        order = _stratified_order(rows.folds != fold, targets.classes, np.random.default_rng([seed, fold]))
        accuracies = []
        for size in sizes:
            chosen = np.zeros(rows.num, dtype=bool)
            chosen[order[:size]] = True
            design = designs.without(fold) if size == num_all else designs.of(chosen)
            fit = design.on_embeddings(design.ridge.fit(c))
            right = [
                fit.logits(block.x).argmax(axis=1) == targets.classes[block.positions]
                for block in rows.blocks(rows.folds == fold)
            ]
            accuracies.append(float(np.concatenate(right).mean()))
        return accuracies

    accuracies_FS = np.array(designs.each_fold(accuracies_of))
    mean_S = accuracies_FS.mean(axis=0)
    quantile = stdtrit(designs.num_folds - 1, (1 + CONFIDENCE) / 2)
    margin_S = quantile * accuracies_FS.std(axis=0, ddof=1) / np.sqrt(designs.num_folds)
    return [
        CurvePoint(size, float(mean), max(0.0, float(mean - margin)), min(1.0, float(mean + margin)))
        for size, mean, margin in zip(sizes, mean_S, margin_S, strict=True)
    ]


def wilson_interval(accuracy: float, num: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy found on so many images (Wilson 1927)."""
    z = float(ndtri((1 + CONFIDENCE) / 2))
    middle = (accuracy + z**2 / (2 * num)) / (1 + z**2 / num)
    margin = z * float(np.sqrt(accuracy * (1 - accuracy) / num + z**2 / (4 * num**2))) / (1 + z**2 / num)
    return max(0.0, middle - margin), min(1.0, middle + margin)


def _stratified_order(chosen: Mask, classes: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.intp]:
    """Return the chosen rows in a random order in which every beginning has its share of each class."""
    rows = random.permutation(np.flatnonzero(chosen))
    place = np.empty(len(rows))
    for number in np.unique(classes[rows]):
        mine = np.flatnonzero(classes[rows] == number)
        place[mine] = (np.arange(len(mine)) + random.random(len(mine))) / len(mine)
    return rows[np.argsort(place, kind="stable")]
