"""The loss of logistic regression: sums over rows of the log loss and its gradient, on the CPU.

`gpu_rows` computes the same sums on a GPU.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.linear.model import Float64Array, LinearModel


class LossSums(NamedTuple):
    """The weighted log loss of some rows and its gradient.

    For each row, z = W x + b are the logits, p = softmax(z) the probabilities, y the class (in the gradients: its
    one-hot vector) and w the sample weight.

    Attributes:
        loss: Sum of w (logsumexp(z) - z[y]), in nats.
        weight_gradient: float64 (K, dim), gradient of the loss with respect to W: sum of w (p - y) x^T.
        bias_gradient: float64 (K,), gradient of the loss with respect to b: sum of w (p - y).
        min_logsumexp: Minimum of logsumexp(z) over the rows, without weights.
    """

    loss: float
    weight_gradient: Float64Array
    bias_gradient: Float64Array
    min_logsumexp: float

    def plus(self, other: "LossSums") -> "LossSums":
        """Return the sums over the rows of both."""
        return LossSums(
            self.loss + other.loss,
            self.weight_gradient + other.weight_gradient,
            self.bias_gradient + other.bias_gradient,
            min(self.min_logsumexp, other.min_logsumexp),
        )


def loss_sums(
    x_BD: NDArray[np.floating[Any]],
    classes_B: NDArray[np.int64],
    sample_weights_B: Float64Array,
    model: LinearModel,
) -> LossSums:
    """Return the loss and its gradient for a block of rows. Products are computed in the precision of x.

    Args:
        x_BD: float32 or float64 (B, dim) rows.
        classes_B: int64 (B,), number of each row's class, in [0, K).
        sample_weights_B: float64 (B,).
        model: Weights (K, dim) and biases (K,). They are converted to the precision of x if they have another one.
    """
    truth = (np.arange(len(x_BD)), classes_B)
    weight_KD, bias_K = (part.astype(x_BD.dtype, copy=False) for part in model)
    logits = x_BD @ weight_KD.T + bias_K
    top = logits.max(axis=1, keepdims=True)
    logits -= top
    probabilities = np.exp(logits)
    partition = probabilities.sum(axis=1, keepdims=True)
    log_partition = np.log(partition[:, 0].astype(np.float64))
    loss = float(sample_weights_B @ (log_partition - logits[truth]))
    probabilities /= partition
    probabilities[truth] -= 1
    probabilities *= sample_weights_B.astype(x_BD.dtype)[:, None]
    return LossSums(
        loss=loss,
        weight_gradient=(probabilities.T @ x_BD).astype(np.float64),
        bias_gradient=probabilities.sum(axis=0, dtype=np.float64),
        min_logsumexp=float((log_partition + top[:, 0]).min()),
    )
