"""Intervals: 95 % confidence intervals of scores that were measured on a limited number of images."""

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
# Half the width of an interval of a normal distribution, in standard deviations: 1.96.
HALF_WIDTH = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_FEWEST = 5


def wilson_interval(accuracy: float, num: int) -> tuple[float, float]:
    """Return Wilson's score interval of an accuracy (Wilson 1927, eq. 5).

    For 20 right of 20 it gives 0.84 to 1. A bootstrap interval would have no width there.

    Args:
        accuracy: Fraction of images that are right, in [0, 1].
        num: Number of images, at least 1.

    Returns:
        The lower and the upper end, in [0, 1].
    """
    z = HALF_WIDTH
    middle = (accuracy + z**2 / (2 * num)) / (1 + z**2 / num)
    margin = z * float(np.sqrt(accuracy * (1 - accuracy) / num + z**2 / (4 * num**2))) / (1 + z**2 / num)
    return max(0.0, middle - margin), min(1.0, middle + margin)


def can_resample(strata: NDArray[np.int64]) -> bool:
    """Whether each stratum has at least five rows. Resamples of fewer hardly differ: intervals would be too narrow.

    Args:
        strata: (N,) number of the stratum of each row.
    """
    return bool(np.unique(strata, return_counts=True)[1].min() >= _FEWEST)


def resamples(strata: NDArray[np.int64], num: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield bootstrap resamples: how often each row is drawn (stratified bootstrap; Efron 1979).

    Rows are drawn with replacement within each stratum. So every resample has as many rows of each stratum as the data
    have, and no class can be missing.

    Args:
        strata: (N,) number of the stratum of each row.
        num: Number of resamples.
        seed: Seed of the random draws.

    Yields:
        (N,) counts, int64, which sum to N.
    """
    order = np.argsort(strata, kind="stable")
    _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
    start_N, size_N = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    random = np.random.default_rng(seed)
    for _ in range(num):
        drawn = start_N + (random.random(len(strata)) * size_N).astype(np.int64)
        yield np.bincount(order[drawn], minlength=len(strata))


def percentile_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the percentile interval of a score (Efron 1979).

    Args:
        values: (R,) the score of each resample.

    Returns:
        The 2.5th and the 97.5th percentile.
    """
    low, high = np.quantile(values, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)
