"""Sufficient statistics of least squares: sums over rows, from which every fit and every squared error follows.

Their memory depends on the number of columns, not on the number of rows. They add up: the statistics of all folds but
one are a sum, so leaving out a fold costs no pass through the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.linear.model import Float64Array, LinearModel


@dataclass(frozen=True)
class SufficientStatistics:
    """Weighted sums over rows x (dim,), their targets y (C,) and their sample weights w.

    Attributes:
        sum_w: Sum of w.
        sum_wx: float64 (dim,), sum of w x.
        sum_wy: float64 (C,), sum of w y.
        sum_wxx: float64 (dim, dim), sum of w x x^T.
        sum_wxy: float64 (dim, C), sum of w x y^T.
        sum_wyy: Sum of w |y|^2.
    """

    sum_w: float
    sum_wx: Float64Array
    sum_wy: Float64Array
    sum_wxx: Float64Array
    sum_wxy: Float64Array
    sum_wyy: float

    @classmethod
    def total(cls, parts: Sequence["SufficientStatistics"]) -> "SufficientStatistics":
        """Return the statistics of the rows of all parts, of which there is at least one."""
        sum_wxx = parts[0].sum_wxx.copy()
        for part in parts[1:]:
            sum_wxx += part.sum_wxx  # in place, because this matrix is large
        return cls(
            sum_w=sum(part.sum_w for part in parts),
            sum_wx=np.sum([part.sum_wx for part in parts], axis=0),
            sum_wy=np.sum([part.sum_wy for part in parts], axis=0),
            sum_wxx=sum_wxx,
            sum_wxy=np.sum([part.sum_wxy for part in parts], axis=0),
            sum_wyy=sum(part.sum_wyy for part in parts),
        )

    def select(self, columns: NDArray[np.intp]) -> "SufficientStatistics":
        """Return the statistics of some columns only.

        Args:
            columns: (r,) positions of the columns.
        """
        return SufficientStatistics(
            self.sum_w,
            self.sum_wx[columns],
            self.sum_wy,
            self.sum_wxx[np.ix_(columns, columns)],
            self.sum_wxy[columns],
            self.sum_wyy,
        )

    def variance(self) -> Float64Array:
        """Return the weighted variance of each column, float64 (dim,). It is exactly 0 for a constant column."""
        mean = self.sum_wx / self.sum_w
        return without_rounding(self.sum_wxx.diagonal() / self.sum_w - mean**2, mean)

    def squared_error(self, model: LinearModel) -> float:
        """Return the sum over the rows of w |y - W x - b|^2, where W and b are the model's weight and bias.

        It follows from the statistics alone:

            sum w |y|^2 - 2 (<W, sum w y x^T> + b . sum w y) + <W sum w x x^T, W> + 2 b . W sum w x + |b|^2 sum w
        """
        explained = np.einsum("dc,cd->", self.sum_wxy, model.weight) + self.sum_wy @ model.bias
        fitted = np.einsum("cd,cd->", model.weight @ self.sum_wxx, model.weight)
        fitted += 2 * model.bias @ (model.weight @ self.sum_wx) + self.sum_w * (model.bias @ model.bias)
        return float(self.sum_wyy - 2 * explained + fitted)


def without_rounding(variance: Float64Array, mean: Float64Array) -> Float64Array:
    """Return variances of columns, (dim,), with 0 for those that are only rounding errors of a constant column."""
    return np.where(variance > 1e-12 * (variance + mean**2), variance, 0.0)


class BlockStatistics(NamedTuple):
    """The sums of `SufficientStatistics` over one block of rows. Those with x have the precision of the rows."""

    sum_w: float
    sum_wx: NDArray[np.floating[Any]]
    sum_wy: Float64Array
    sum_wxx: NDArray[np.floating[Any]]
    sum_wxy: NDArray[np.floating[Any]]
    sum_wyy: float


def block_statistics(
    x_BD: NDArray[np.floating[Any]], y_BC: Float64Array, sample_weights_B: Float64Array
) -> BlockStatistics:
    """Return the weighted sums over a block of rows. Products with x are computed in the precision of x.

    Args:
        x_BD: float32 or float64 (B, dim) rows.
        y_BC: float64 (B, C) targets.
        sample_weights_B: float64 (B,), positive.
    """
    x, y = x_BD, np.concatenate([y_BC, np.ones((len(y_BC), 1))], axis=1)
    if (sample_weights_B != 1).any():
        root_B = np.sqrt(sample_weights_B)[:, None]
        x, y = x * root_B.astype(x.dtype), y * root_B
    xy = x.T @ y.astype(x.dtype)  # the last column of y is 1, which gives the sum of x
    return BlockStatistics(
        sum_w=float(sample_weights_B.sum()),
        sum_wx=xy[:, -1],
        sum_wy=sample_weights_B @ y_BC,
        sum_wxx=x.T @ x,
        sum_wxy=xy[:, :-1],
        sum_wyy=float((y[:, :-1] ** 2).sum()),
    )


class StatisticsAccumulator:
    """Adds the statistics of blocks in place, in float64.

    Args:
        dim: Number of columns of the rows.
        num_targets: Number of targets of a row, C.
    """

    def __init__(self, dim: int, num_targets: int) -> None:
        self._sum_w, self._sum_wyy = 0.0, 0.0
        self._sum_wx, self._sum_wy = np.zeros(dim), np.zeros(num_targets)
        self._sum_wxx, self._sum_wxy = np.zeros((dim, dim)), np.zeros((dim, num_targets))

    def add(self, block: BlockStatistics) -> None:
        """Add the statistics of a block."""
        self._sum_wxx += block.sum_wxx
        self._sum_wxy += block.sum_wxy
        self._sum_wx += block.sum_wx
        self._sum_wy += block.sum_wy
        self._sum_w += block.sum_w
        self._sum_wyy += block.sum_wyy

    def statistics(self) -> SufficientStatistics:
        """Return the sums. They share memory with the accumulator, so do not add another block afterwards."""
        return SufficientStatistics(
            self._sum_w, self._sum_wx, self._sum_wy, self._sum_wxx, self._sum_wxy, self._sum_wyy
        )
