"""Intervals: how far a score may lie from the truth, given on how few images it was found. All are of 95 %."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

CONFIDENCE = 0.95


def wilson_interval(accuracy: float, num: int) -> tuple[float, float]:
    """Return the interval of an accuracy found on so many images (Wilson 1927).

    Resampling would say that 20 right of 20 are certain to be right always; this says 0.84 to 1.
    """
    z = float(ndtri((1 + CONFIDENCE) / 2))
    middle = (accuracy + z**2 / (2 * num)) / (1 + z**2 / num)
    margin = z * float(np.sqrt(accuracy * (1 - accuracy) / num + z**2 / (4 * num**2))) / (1 + z**2 / num)
    return max(0.0, middle - margin), min(1.0, middle + margin)


def resamples(strata: NDArray[np.int64], num: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Give how often each row is drawn in each of several draws with replacement (bootstrap; Efron 1979).

    Every stratum keeps its number of rows, so no class can be missing from a draw.

    Args:
        strata: (N,) number of each row's stratum.
        num: Draws.
        seed: Of chance.

    Yields:
        (N,) counts, which sum to N.
    """
    order = np.argsort(strata, kind="stable")
    _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
    start_N, size_N = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    random = np.random.default_rng(seed)
    for _ in range(num):
        drawn = start_N + (random.random(len(strata)) * size_N).astype(np.int64)
        yield np.bincount(order[drawn], minlength=len(strata))


def percentile_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the interval that holds the middle of what the draws gave."""
    low, high = np.quantile(values, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)
