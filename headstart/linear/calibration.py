"""Calibration: logits are divided by one temperature, so that the probabilities match the observed frequencies."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

_CHUNK_ROWS = 8192
_MAX_INVERSE = 1e3  # the inverse temperature is searched between 1 / _MAX_INVERSE and _MAX_INVERSE


def fit_temperature(logits_NC: NDArray[np.floating[Any]], classes_N: NDArray[np.int64]) -> float:
    """Return the temperature T that minimises the mean log loss of softmax(logits / T) (Guo et al. 2017, section 4.2).

    The targets are smoothed: the true class counts 1 - e + e / C and every other class e / C, where e = 1 / (N + 2),
    in the spirit of Platt (1999). Without smoothing, T falls towards 0 if all rows are classified correctly, and the
    probabilities of a small data set become 0 and 1.

    With z_n the logits and y_n the class of row n, the loss is a convex function of b = 1 / T, which Newton's method
    minimises:

        loss(b) = mean over n of: logsumexp(b z_n) - b ((1 - e) z_n[y_n] + e mean(z_n))

    Args:
        logits_NC: float32 or float64 (N, C) logits of rows that the model was not fitted on.
        classes_N: int64 (N,) number of each row's true class.

    Returns:
        The temperature, between 0.001 and 1000.
    """
    smoothing = 1 / (len(logits_NC) + 2)
    low, high, inverse = 1 / _MAX_INVERSE, _MAX_INVERSE, 1.0
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
        proposed = inverse - slope / curvature if curvature > 0 else np.inf
        if not low < proposed < high:  # Newton's step leaves the interval: bisect it, on a logarithmic scale
            proposed = float(np.sqrt(low * high))
        if abs(proposed - inverse) <= 1e-6 * inverse:
            break
        inverse = proposed
    return 1 / inverse


def log_losses(
    logits_NC: NDArray[np.floating[Any]], classes_N: NDArray[np.int64], temperature: float
) -> NDArray[np.float64]:
    """Return the log loss of each row, float64 (N,), in nats: -log softmax(logits / temperature)[true class].

    Args:
        logits_NC: float32 or float64 (N, C).
        classes_N: int64 (N,) number of each row's true class.
        temperature: Positive number that the logits are divided by.
    """
    parts = []
    for rows in _chunks(len(logits_NC)):
        logits = logits_NC[rows].astype(np.float64) / temperature
        parts.append(-log_softmax(logits, axis=1)[np.arange(len(logits)), classes_N[rows]])
    return np.concatenate(parts)


def _chunks(num_rows: int) -> Iterator[slice]:
    """Give the rows a chunk at a time, because the intermediate results take several times the memory of the logits."""
    return (slice(start, start + _CHUNK_ROWS) for start in range(0, num_rows, _CHUNK_ROWS))
