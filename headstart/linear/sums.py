"""Sums: what a pass over the rows gives logistic regression, on the CPU. `gpu` has the same for a GPU."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.linear.moments import Array, Linear


class Sums(NamedTuple):
    """Sums over rows, each times its weight.

    Attributes:
        loss: Log loss.
        weight: (K, r) its gradient by the weights on the rows' columns.
        bias: (K,) its gradient by the biases.
        lowest: Not a sum: the least log of the rows' partition functions.
    """

    loss: float
    weight: Array
    bias: Array
    lowest: float

    def plus(self, other: "Sums") -> "Sums":
        """Return the sums over the rows of both."""
        return Sums(
            self.loss + other.loss,
            self.weight + other.weight,
            self.bias + other.bias,
            min(self.lowest, other.lowest),
        )


def sums_of(x_BR: NDArray[np.floating[Any]], classes_B: NDArray[np.int64], weights_B: Array, on_rows: Linear) -> Sums:
    """Return the sums over some rows, multiplied in the precision of `x`.

    Args:
        x_BR: Rows.
        classes_B: Numbers of their classes, in the order of the logits.
        weights_B: Of the rows.
        on_rows: Weights (K, r) and biases (K,), best in that precision already.
    """
    truth = (np.arange(len(x_BR)), classes_B)
    weight_KR, bias_K = (part.astype(x_BR.dtype, copy=False) for part in on_rows)
    logits = x_BR @ weight_KR.T + bias_K
    top = logits.max(axis=1, keepdims=True)
    logits -= top
    probabilities = np.exp(logits)
    partition = probabilities.sum(axis=1, keepdims=True)
    log_sum = np.log(partition[:, 0].astype(np.float64))
    loss = float(weights_B @ (log_sum - logits[truth]))
    probabilities /= partition
    probabilities[truth] -= 1
    probabilities *= weights_B.astype(x_BR.dtype)[:, None]
    return Sums(
        loss=loss,
        weight=(probabilities.T @ x_BR).astype(np.float64),
        bias=probabilities.sum(axis=0, dtype=np.float64),
        lowest=float((log_sum + top[:, 0]).min()),
    )
