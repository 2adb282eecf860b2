"""Ridge regression: least squares with an L2 penalty, for any regularisation strength.

`NormalEquations` has a matrix of the size of the columns, `kernel_ridge` one of the size of the rows. Both give the
same solution, and the smaller matrix is faster.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from headstart.base.errors import TrainingError
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.sufficient_statistics import SufficientStatistics


@dataclass(frozen=True)
class NormalEquations:
    """The normal equations of ridge regression on standardised columns s = (x - mean) / scale.

    Ridge regression (Hoerl & Kennard 1970; ESL, section 3.4.1; scikit-learn's Ridge with alpha = 1 / c) minimises

        sum over the rows of w |y - V s - b|^2  +  |V|^2 / c

    over the weights V and the intercept b, which is not penalised. The solution is

        V^T = (gram + I / c)^-1 cross    b = target_mean

    Attributes:
        mean: float64 (dim,), weighted mean of each column.
        scale: float64 (dim,), what each centred column is divided by.
        gram: float64 (dim, dim), sum of w s s^T.
        cross: float64 (dim, C), sum of w s (y - target_mean)^T.
        target_mean: float64 (C,), weighted mean of the targets.
        sum_w: Sum of the sample weights.
    """

    mean: Float64Array
    scale: Float64Array
    gram: Float64Array
    cross: Float64Array
    target_mean: Float64Array
    sum_w: float

    @classmethod
    def from_statistics(cls, statistics: SufficientStatistics, scale: Float64Array) -> "NormalEquations":
        """Return the normal equations of the rows that the statistics were summed over.

        Args:
            statistics: Sums over the rows.
            scale: float64 (dim,), positive: what each centred column is divided by.
        """
        mean, target_mean = statistics.sum_wx / statistics.sum_w, statistics.sum_wy / statistics.sum_w
        gram = np.outer(statistics.sum_wx, -mean)
        gram += statistics.sum_wxx
        gram /= scale
        gram /= scale[:, None]
        cross = (statistics.sum_wxy - np.outer(statistics.sum_wx, target_mean)) / scale[:, None]
        return cls(mean, scale, gram, cross, target_mean, statistics.sum_w)

    def select(self, columns: NDArray[np.intp], divisor: Float64Array) -> "NormalEquations":
        """Return the equations of some columns only, which are divided by more than their scale.

        Args:
            columns: (r,) positions of the columns.
            divisor: float64 (r,), positive: what to divide the standardised columns by.
        """
        gram = self.gram[np.ix_(columns, columns)]
        gram /= divisor
        gram /= divisor[:, None]
        return NormalEquations(
            self.mean[columns],
            self.scale[columns] * divisor,
            gram,
            self.cross[columns] / divisor[:, None],
            self.target_mean,
            self.sum_w,
        )

    def solve(self, c: float) -> LinearModel:
        """Return the solution as a model on the columns x, before they are standardised.

        Args:
            c: Inverse regularisation strength, positive: a smaller c regularises more.

        Raises:
            TrainingError: The penalised matrix is not positive definite in this precision.
        """
        penalised = self.gram.copy()
        penalised[np.diag_indices_from(penalised)] += 1 / c
        weight = (_solve(penalised, self.cross, c) / self.scale[:, None]).T
        return LinearModel(weight, self.target_mean - weight @ self.mean)


def kernel_ridge(
    kernel: Float64Array, targets: Float64Array, sample_weights: Float64Array, c: float
) -> tuple[Float64Array, Float64Array]:
    """Solve ridge regression in its dual form (Saunders et al. 1998, section 2, here with weights and an intercept).

    With the rows S and the kernel K = S S^T, the weights are V^T = S^T a, and a and the intercept b solve

        (K + diag(1 / (c w))) a = Y - 1 b    1^T a = 0

    A shift of all rows changes only the intercept, so the rows need not be centred.

    Args:
        kernel: float64 (N, N).
        targets: float64 (N, C), Y.
        sample_weights: float64 (N,), positive, w.
        c: Inverse regularisation strength, positive.

    Returns:
        a, float64 (N, C), and b, float64 (C,).

    Raises:
        TrainingError: The penalised kernel is not positive definite in this precision.
    """
    penalised = kernel.copy()
    penalised[np.diag_indices_from(penalised)] += 1 / (c * sample_weights)
    solution = _solve(penalised, np.column_stack([targets, np.ones(len(targets))]), c)
    dual, of_ones = solution[:, :-1], solution[:, -1]
    bias: Float64Array = dual.sum(axis=0) / of_ones.sum()
    return dual - np.outer(of_ones, bias), bias


def _solve(penalised: Float64Array, right: Float64Array, c: float) -> Float64Array:
    """Solve penalised @ x = right for a symmetric matrix, which is overwritten. c is for the message."""
    try:
        # The matrix is symmetric, and its transpose has the memory order that LAPACK needs.
        factor = cho_factor(penalised.T, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError as error:
        raise TrainingError(
            f"ridge regression with c = {c:g} has no solution in this precision: columns of the embeddings are "
            "too similar to each other, or too far from zero, for so little regularisation. Expected a smaller c "
            "(head.c, head.c_grid, finetune.probe_c_grid)"
        ) from error
    solution: Float64Array = cho_solve(factor, right, check_finite=False)
    return solution
