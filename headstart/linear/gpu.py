"""The sums of `sums`, on a GPU, where the rows stay. Imported only where there is one: torch takes seconds."""

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.base.errors import ParamsError
from headstart.linear.moments import Array, Linear
from headstart.linear.rows import Block
from headstart.linear.sums import Sums


class GpuRows:
    """Rows on a GPU.

    Args:
        block: The rows.
        classes_B: Numbers of their classes, in the order of the logits.
        weights_B: Of the rows.
        device: Such as `cuda:0`.
        exact: Whether to multiply in float64, else float32.

    Raises:
        ParamsError: The GPU's memory does not hold them.
    """

    def __init__(
        self, block: Block, classes_B: NDArray[np.int64], weights_B: Array, *, device: str, exact: bool
    ) -> None:
        dtype = torch.float64 if exact else torch.float32
        try:
            self._x = torch.from_numpy(block.x).to(device, dtype)
        except torch.OutOfMemoryError as error:
            raise ParamsError(
                f"runtime.device: {device}: its memory does not hold {block.x.shape} rows; expected cpu for so many"
            ) from error
        self._classes = torch.from_numpy(classes_B).to(device)
        self._weights = torch.from_numpy(weights_B).to(device, dtype)

    def sums(self, on_rows: Linear) -> Sums:
        """Return the sums over the rows, for weights (K, r) and biases (K,)."""
        weight, bias = (torch.from_numpy(each).to(self._x) for each in on_rows)
        logits = torch.addmm(bias, self._x, weight.T)
        log_partition = logits.logsumexp(dim=1)
        own = logits.gather(1, self._classes[:, None])[:, 0]
        probabilities = (logits - log_partition[:, None]).exp()
        probabilities[torch.arange(len(own), device=probabilities.device), self._classes] -= 1
        probabilities *= self._weights[:, None]
        weights = self._weights.double()
        return Sums(
            loss=float(weights @ (log_partition - own).double()),
            weight=(probabilities.T @ self._x).double().cpu().numpy(),
            bias=probabilities.sum(dim=0, dtype=torch.float64).cpu().numpy(),
            lowest=float(log_partition.min()),
        )
