"""The learning curve: accuracy by number of training images, and what twice as many images would add.

It uses ridge regression and training rows only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from headstart.linear.design import DesignMatrices
from headstart.linear.layer_rows import Mask
from headstart.linear.model import Float64Array
from headstart.tables.head import LearningPoint
from headstart.tables.intervals import CONFIDENCE, wilson_interval

NUM_SIZES = 7
_FEWEST_SIZES = 3  # a curve with fewer sizes says nothing about the gain
_NUM_LARGEST_SIZES = 4  # the power law is fitted to these sizes only: at few images the curve may follow another law


@dataclass(frozen=True)
class LearningCurve:
    """How accuracy grows with the number of training images.

    Attributes:
        points: Points of the curve, by number of images.
        doubling_gain: Estimate of what twice as many training images would add to the accuracy.
        doubling_gain_low: Lower end of the 95 % interval of `doubling_gain`.
        doubling_gain_high: Upper end of this interval.
    """

    points: Sequence[LearningPoint]
    doubling_gain: float
    doubling_gain_low: float
    doubling_gain_high: float


def learning_curve(designs: DesignMatrices, c: float, seed: int) -> LearningCurve:
    """Return the accuracy at several numbers of training images, each a fixed multiple of the one before.

    For every fold, the rows of the other folds are shuffled so that any first n of them have their share of each class.
    Ridge regression is fitted to the first n rows, for several n, and scored on the fold. The interval of an accuracy
    is Student's t interval over the folds. It covers both draws: of the training images and of the scored images.

    Args:
        designs: Design matrices of the layers that the head reads.
        c: Inverse regularisation strength of ridge regression.
        seed: Seed of the random orders.
    """
    rows, targets = designs.rows, designs.targets
    num_all = int(min((rows.folds != fold).sum() for fold in range(designs.num_folds)))
    smallest = min(max(targets.num_classes, num_all // 64, 2), num_all)
    sizes = sorted({int(size) for size in np.geomspace(smallest, num_all, NUM_SIZES)})

    def accuracies_of(fold: int) -> list[float]:
        order = _stratified_order(rows.folds != fold, targets.classes, np.random.default_rng([seed, fold]))
        accuracies = []
        for size in sizes:
            mask = designs.without_fold(fold)
            if size < num_all:
                mask = np.zeros(rows.num_rows, dtype=bool)
                mask[order[:size]] = True
            model = designs.ridge(mask, c)
            right = [
                model.logits(block.x).argmax(axis=1) == targets.classes[block.positions]
                for block in rows.blocks(rows.folds == fold)
            ]
            accuracies.append(float(np.concatenate(right).mean()))
        return accuracies

    accuracies_FS = np.array(designs.map_folds(accuracies_of))
    mean_S = accuracies_FS.mean(axis=0)
    quantile = stdtrit(designs.num_folds - 1, (1 + CONFIDENCE) / 2)
    margin_S = quantile * accuracies_FS.std(axis=0, ddof=1) / np.sqrt(designs.num_folds)
    gain, error = doubling_gain(sizes, accuracies_FS, rows.num_rows)
    # The gain cannot exceed the error rate. If no row is wrong, or the curve has too few sizes, nothing else is known.
    max_gain = 1 - wilson_interval(float(mean_S[-1]), rows.num_rows)[0]
    is_known = len(sizes) >= _FEWEST_SIZES and mean_S[-1] < 1
    return LearningCurve(
        points=[
            LearningPoint(size, float(mean), max(0.0, float(mean - margin)), min(1.0, float(mean + margin)))
            for size, mean, margin in zip(sizes, mean_S, margin_S, strict=True)
        ],
        doubling_gain=gain,
        doubling_gain_low=max(gain - float(quantile) * error, -1.0) if is_known else 0.0,
        doubling_gain_high=min(gain + float(quantile) * error, max_gain) if is_known else max_gain,
    )


def doubling_gain(sizes: Sequence[int], accuracies_FS: Float64Array, num_images: int) -> tuple[float, float]:
    """Return what twice as many images would add to the accuracy, and the standard error of this gain.

    The error rate is modelled as a power of the number n of training images: error(n) = a n^-b (Hestness et al. 2017).
    A line through the logarithms of the largest sizes gives b. With N images in all, the gain is

        error(N) - error(2 N) = error(N) (1 - 2^-b)

    An error rate that seems to rise counts as constant (b = 0). The standard error is the jackknife's over the folds
    (Efron & Tibshirani 1993, chapter 11).

    Args:
        sizes: (S,) numbers of training images, ascending.
        accuracies_FS: float64 (F, S), accuracies by fold and size, in [0, 1].
        num_images: Number of images in the whole training set, N. Together the folds were scored on all of them, so an
            error rate below half an image, 0.5 / N, counts as 0.5 / N.

    Returns:
        The gain, at least 0, and its standard error.
    """
    log_sizes = np.log2(np.array(sizes[-_NUM_LARGEST_SIZES:], dtype=np.float64))

    def gain_of(accuracies_FS: Float64Array) -> float:
        errors = np.maximum(1 - accuracies_FS.mean(axis=0), 0.5 / num_images)[-_NUM_LARGEST_SIZES:]
        if len(errors) < 2:
            return 0.0
        power = min(np.polyfit(log_sizes, np.log2(errors), 1)[0], 0.0)
        return float(errors[-1] * (num_images / sizes[-1]) ** power * (1 - 2**power))

    num_folds = len(accuracies_FS)
    without = np.array([gain_of(np.delete(accuracies_FS, fold, axis=0)) for fold in range(num_folds)])
    error = np.sqrt((num_folds - 1) / num_folds * ((without - without.mean()) ** 2).sum())
    return gain_of(accuracies_FS), float(error)


def _stratified_order(mask: Mask, classes: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.intp]:
    """Return the positions of the rows in the mask, shuffled so that any first n have their share of each class."""
    rows = random.permutation(np.flatnonzero(mask))
    place = np.empty(len(rows))
    for number in np.unique(classes[rows]):
        mine = np.flatnonzero(classes[rows] == number)
        place[mine] = (np.arange(len(mine)) + random.random(len(mine))) / len(mine)
    return rows[np.argsort(place, kind="stable")]
