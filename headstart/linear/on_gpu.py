"""Training rows on a GPU, if there is one and its memory suffices. If not, the CPU computes, and a line says so.

This module imports no torch: `gpu_rows`, which does, is imported only for a GPU.
"""

from collections.abc import Callable, Iterable
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.base.machine import allow_unrepeatable, is_out_of_memory
from headstart.linear.layer_rows import RowBlock
from headstart.linear.targets import Targets

if TYPE_CHECKING:
    from headstart.linear.gpu_rows import GpuRows

Result = TypeVar("Result")


class OnGpu:
    """Training rows in the memory of a GPU, or none.

    Args:
        rows: The rows. None: there is no GPU, or its memory is too small.
    """

    def __init__(self, rows: "GpuRows | None" = None) -> None:
        self._rows = rows
        self._lock = Lock()  # one computation at a time, because each needs memory

    @classmethod
    def upload(cls, blocks: Iterable[RowBlock], folds: NDArray[np.int64], targets: Targets, device: str) -> "OnGpu":
        """Copy rows to a GPU.

        Args:
            blocks: The rows, in blocks of one fold each.
            folds: int64 (N,), fold of every training row; -1 if it is in no block.
            targets: Targets of all N training rows.
            device: Name of the device, such as `cuda:0`. `cpu`: there is no GPU, and no block is read.
        """
        if device == "cpu":
            return cls()
        from headstart.linear.gpu_rows import GpuRows  # it imports torch, which takes seconds

        return cls(_unless_out_of_memory(lambda: GpuRows.upload(blocks, folds, targets, device)))

    def compute(self, function: "Callable[[GpuRows], Result]") -> Result | None:
        """Call a function with the rows on the GPU, and return its result.

        None: there are no rows on a GPU, or its memory is too small for them. Then they are freed.
        """
        with self._lock:
            rows = self._rows
            if rows is None:
                return None
            result = _unless_out_of_memory(lambda: _repeatable_if_possible(lambda: function(rows)))
            if result is None:
                self._rows = None
            return result

    def select(self, columns: NDArray[np.intp]) -> "OnGpu":
        """Return the same rows with some columns only, given by their positions. They are copied on the GPU."""
        if self._rows is None or len(columns) == self._rows.x.shape[1]:
            return self
        return OnGpu(self.compute(lambda rows: rows.select(columns)))


def _repeatable_if_possible(function: Callable[[], Result]) -> Result:
    try:
        return function()
    except RuntimeError as error:
        if not allow_unrepeatable(error):
            raise
    return function()


def _unless_out_of_memory(function: Callable[[], Result]) -> Result | None:
    try:
        return function()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        print("the memory of the GPU is too small for the training rows; continuing on the CPU")
        return None
