"""The sums of `loss` on a GPU, which holds the rows.

Import this module only if there is a GPU: it imports torch, which takes seconds.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.base.errors import ParamsError
from headstart.linear.layer_rows import RowBlock
from headstart.linear.loss import LossSums
from headstart.linear.model import Float64Array, LinearModel


class GpuBlock:
    """A block of rows in the memory of a GPU.

    Args:
        block: The rows.
        classes_B: int64 (B,), number of each row's class, in [0, K).
        sample_weights_B: float64 (B,).
        device: Name of the device, such as `cuda:0`.
        exact: Whether products are computed in float64. Otherwise they are computed in float32.

    Raises:
        ParamsError: The memory of the GPU is too small for the rows.
    """

    def __init__(
        self,
        block: RowBlock,
        classes_B: NDArray[np.int64],
        sample_weights_B: Float64Array,
        *,
        device: str,
        exact: bool,
    ) -> None:
        dtype = torch.float64 if exact else torch.float32
        try:
            self._x = torch.from_numpy(block.x).to(device, dtype)
        except torch.OutOfMemoryError as error:
            raise ParamsError(
                f"runtime.device: {device}: its memory is too small for {block.x.shape} rows; expected cpu for so many"
            ) from error
        self._classes = torch.from_numpy(classes_B).to(device)
        self._sample_weights = torch.from_numpy(sample_weights_B).to(device, dtype)

    def loss_sums(self, model: LinearModel) -> LossSums:
        """Return the loss and its gradient for the rows, for weights (K, dim) and biases (K,)."""
        weight, bias = (torch.from_numpy(each).to(self._x) for each in model)
        logits = torch.addmm(bias, self._x, weight.T)
        logsumexp = logits.logsumexp(dim=1)
        own = logits.gather(1, self._classes[:, None])[:, 0]
        probabilities = (logits - logsumexp[:, None]).exp()
        probabilities[torch.arange(len(own), device=probabilities.device), self._classes] -= 1
        probabilities *= self._sample_weights[:, None]
        sample_weights = self._sample_weights.double()
        return LossSums(
            loss=float(sample_weights @ (logsumexp - own).double()),
            weight_gradient=(probabilities.T @ self._x).double().cpu().numpy(),
            bias_gradient=probabilities.sum(dim=0, dtype=torch.float64).cpu().numpy(),
            min_logsumexp=float(logsumexp.min()),
        )
