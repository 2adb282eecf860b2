"""Calibration: one temperature that logits are divided by, so that probabilities mean what they say."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

_CHUNK = 8192
_LARGEST = 1e3  # of the inverse, where every row is right and the loss falls for ever


def calibrate(logits_NC: NDArray[np.floating[Any]], classes_N: NDArray[np.int64]) -> float:
    """Return the temperature that makes the mean log loss least (Guo et al. 2017), between 0.001 and 1000.

    Newton's method on the inverse of the temperature, in which the loss is convex.

    Args:
        logits_NC: Of rows that the logits were not fitted on.
        classes_N: Number of each row's true class.
    """
    low, high, inverse = 1 / _LARGEST, _LARGEST, 1.0
    for _ in range(100):
        slope = curvature = 0.0
        for rows in _chunks(len(logits_NC)):
            logits, classes = logits_NC[rows].astype(np.float64), classes_N[rows]
            probabilities = softmax(inverse * logits, axis=1)
            mean = (probabilities * logits).sum(axis=1)
            slope += float((mean - logits[np.arange(len(logits)), classes]).sum())
            curvature += float(((probabilities * logits**2).sum(axis=1) - mean**2).sum())
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        wanted = inverse - slope / curvature if curvature > 0 else np.inf
        if not low < wanted < high:  # too far for Newton: halve what is left
            wanted = float(np.sqrt(low * high))
        if abs(wanted - inverse) <= 1e-7 * inverse:
            break
        inverse = wanted
    return 1 / inverse


def log_losses(
    logits_NC: NDArray[np.floating[Any]], classes_N: NDArray[np.int64], temperature: float
) -> NDArray[np.float64]:
    """Return the log loss of each row with its logits divided by a temperature, (N,), in nats."""
    parts = []
    for rows in _chunks(len(logits_NC)):
        logits = logits_NC[rows].astype(np.float64) / temperature
        parts.append(-log_softmax(logits, axis=1)[np.arange(len(logits)), classes_N[rows]])
    return np.concatenate(parts)


def _chunks(num: int) -> Iterator[slice]:
    """Few rows at a time: what is made of them on the way takes several times their memory."""
    return (slice(start, start + _CHUNK) for start in range(0, num, _CHUNK))
