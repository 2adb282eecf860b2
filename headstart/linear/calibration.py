"""Calibration: one temperature that logits are divided by, so that probabilities mean what they say."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

_CHUNK = 8192
_LARGEST = 1e3  # of the inverse


def calibrate(logits_NC: NDArray[np.floating[Any]], classes_N: NDArray[np.int64]) -> float:
    """Return the temperature that makes the mean log loss least (Guo et al. 2017), between 0.001 and 1000.

    One row in N + 2 counts as of any class, much as in Platt (1999): where all rows are right, the loss would fall for
    ever, and the probabilities of a small data set would become certainties. Newton's method on the inverse of the
    temperature, in which the loss is convex.

    Args:
        logits_NC: Of rows that the logits were not fitted on.
        classes_N: Number of each row's true class.
    """
    smoothing = 1 / (len(logits_NC) + 2)
    low, high, inverse = 1 / _LARGEST, _LARGEST, 1.0
    for _ in range(100):
        slope = curvature = 0.0
        for rows in _chunks(len(logits_NC)):
            logits, classes = logits_NC[rows], classes_N[rows]
            probabilities = softmax(logits * logits.dtype.type(inverse), axis=1)
            mean = np.einsum("nc,nc->n", probabilities, logits, dtype=np.float64)
            square = np.einsum("nc,nc,nc->n", probabilities, logits, logits, dtype=np.float64)
            own = logits[np.arange(len(logits)), classes].astype(np.float64)
            slope += float((mean - (1 - smoothing) * own - smoothing * logits.mean(axis=1)).sum())
            curvature += float((square - mean**2).sum())
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        wanted = inverse - slope / curvature if curvature > 0 else np.inf
        if not low < wanted < high:  # too far for Newton: halve what is left
            wanted = float(np.sqrt(low * high))
        if abs(wanted - inverse) <= 1e-6 * inverse:
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
