"""Curves: how good each layer is, and how much more images would help, by ridge regression on training rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from headstart.linear.designs import Designs
from headstart.linear.moments import Array
from headstart.linear.rows import Mask
from headstart.tables.head import LearningPoint
from headstart.tables.intervals import CONFIDENCE, wilson_interval

NUM_SIZES = 7
_FEWEST_SIZES = 3
_NUM_TAIL = 4  # of the sizes, the largest: the curve's law may be another where images are few


@dataclass(frozen=True)
class LearningCurve:
    """How accuracy grows with the number of training images.

    Attributes:
        points: Points of the curve, by number of images.
        doubling_gain: About what twice as many images would add to the accuracy.
        doubling_gain_low: Lower end of its 95 % interval.
        doubling_gain_high: Upper end.
    """

    points: Sequence[LearningPoint]
    doubling_gain: float
    doubling_gain_low: float
    doubling_gain_high: float


def learning_curve(designs: Designs, c: float, seed: int) -> LearningCurve:
    """Return the accuracy at several numbers of training images, each a fixed multiple of the one before.

    For every fold the other folds' rows are put in a random order in which every beginning has its share of each class,
    and beginnings of it are fitted and scored on the fold. The interval is Student's over the folds, so it holds both
    draws: which images were trained on and which were scored.

    Args:
        designs: Designs of the layer.
        c: Strength of the ridge regression.
        seed: Seed of the orders.
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
    gain, error = doubling_gain(sizes, accuracies_FS, rows.num)
    # No more can be gained than is wrong; where nothing is wrong, or a curve has too few sizes, only that is known.
    most = 1 - wilson_interval(float(mean_S[-1]), rows.num)[0]
    is_known = len(sizes) >= _FEWEST_SIZES and mean_S[-1] < 1
    return LearningCurve(
        points=[
            LearningPoint(size, float(mean), max(0.0, float(mean - margin)), min(1.0, float(mean + margin)))
            for size, mean, margin in zip(sizes, mean_S, margin_S, strict=True)
        ],
        doubling_gain=gain,
        doubling_gain_low=max(gain - float(quantile) * error, -1.0) if is_known else 0.0,
        doubling_gain_high=min(gain + float(quantile) * error, most) if is_known else most,
    )


def doubling_gain(sizes: Sequence[int], accuracies_FS: Array, num_images: int) -> tuple[float, float]:
    """Return what twice as many images would add to the accuracy, and the standard error of that.

    The error rate falls by a power of the number of images (Hestness et al. 2017): the power is fitted to the largest
    sizes, and the law followed from all images to twice as many. An error rate that seems to rise is taken to stay. The
    standard error is the jackknife's over the folds.

    Args:
        sizes: (S,) numbers of training images, ascending.
        accuracies_FS: By fold and size.
        num_images: Of the whole training set, on which all folds together were scored; half an image wrong is the least
            error that is believed.
    """
    log_sizes = np.log2(np.array(sizes[-_NUM_TAIL:], dtype=np.float64))

    def gain_of(accuracies_FS: Array) -> float:
        errors = np.maximum(1 - accuracies_FS.mean(axis=0), 0.5 / num_images)[-_NUM_TAIL:]
        if len(errors) < 2:
            return 0.0
        power = min(np.polyfit(log_sizes, np.log2(errors), 1)[0], 0.0)
        return float(errors[-1] * (num_images / sizes[-1]) ** power * (1 - 2**power))

    num_folds = len(accuracies_FS)
    without = np.array([gain_of(np.delete(accuracies_FS, fold, axis=0)) for fold in range(num_folds)])
    error = np.sqrt((num_folds - 1) / num_folds * ((without - without.mean()) ** 2).sum())
    return gain_of(accuracies_FS), float(error)


def _stratified_order(chosen: Mask, classes: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.intp]:
    """Return the chosen rows in a random order in which every beginning has its share of each class."""
    rows = random.permutation(np.flatnonzero(chosen))
    place = np.empty(len(rows))
    for number in np.unique(classes[rows]):
        mine = np.flatnonzero(classes[rows] == number)
        place[mine] = (np.arange(len(mine)) + random.random(len(mine))) / len(mine)
    return rows[np.argsort(place, kind="stable")]
