"""Passes through the rows of a fit of logistic regression, on the CPU. `gpu_rows` has the same passes on a GPU."""

from collections.abc import Iterable
from functools import partial, reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.special import softmax

from headstart.base.threads import in_order
from headstart.linear.design import DesignMatrix
from headstart.linear.layer_rows import RowBlock, concatenate
from headstart.linear.loss import LossSums, loss_sums
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.sufficient_statistics import StatisticsAccumulator, SufficientStatistics, block_statistics
from headstart.linear.targets import Targets

# With fewer multiplications in a pass, several blocks and threads cost more than they save. Folds then run in parallel.
SMALL = 10**8


class Factor(Protocol):
    """The Cholesky factor L of a matrix (r, r), lower triangular. All arrays are float64 (K, r)."""

    def product(self, rows: Float64Array) -> Float64Array:
        """Return rows L."""
        ...

    def quotient(self, rows: Float64Array) -> Float64Array:
        """Return rows L^-1."""
        ...

    def quotient_by_transposed(self, rows: Float64Array) -> Float64Array:
        """Return rows L^-T."""
        ...


class Passes(Protocol):
    """What goes through the rows of a fit. Models have weights (K, r) and biases (K,) for the K classes of the fit."""

    def loss_sums(self, model: LinearModel) -> LossSums:
        """Return the loss of all rows and its gradient."""
        ...

    def curvature(self, model: LinearModel) -> SufficientStatistics:
        """Return statistics without targets, where each row counts by its curvature, in float64.

        That is its sample weight times the mean of p (1 - p) over the classes, the mean of the blocks of its Hessian.
        """
        ...

    def factor(self, matrix: Float64Array) -> Factor:
        """Return the Cholesky factor of a positive definite matrix (r, r), which may be overwritten."""
        ...


class CpuFactor:
    """See `Factor`."""

    def __init__(self, matrix: Float64Array) -> None:
        self._factor = cholesky(matrix, lower=True, overwrite_a=True)

    def product(self, rows: Float64Array) -> Float64Array:
        """See `Factor`."""
        product: Float64Array = rows @ self._factor
        return product

    def quotient(self, rows: Float64Array) -> Float64Array:
        """See `Factor`."""
        quotient: Float64Array = solve_triangular(self._factor, rows.T, lower=True, trans="T").T
        return quotient

    def quotient_by_transposed(self, rows: Float64Array) -> Float64Array:
        """See `Factor`."""
        quotient: Float64Array = solve_triangular(self._factor, rows.T, lower=True).T
        return quotient


class CpuPasses:
    """Passes on the CPU.

    Args:
        design: Design matrix of the rows.
        targets: Targets of all N training rows.
        column: int64 (C,), number of each class among the K classes of the fit; -1 for the others.
        exact: Whether products are computed in float64. Otherwise they are computed in float32.
        num_threads: Number of threads.
    """

    def __init__(
        self, design: DesignMatrix, targets: Targets, column: NDArray[np.int64], *, exact: bool, num_threads: int
    ) -> None:
        self._design, self._targets, self._column, self._num_threads = design, targets, column, num_threads
        self._dtype: np.dtype[Any] = np.dtype(np.float64 if exact else np.float32)
        self._whole: tuple[NDArray[Any], NDArray[np.int64], Float64Array] | None = None
        if len(targets.classes) * len(design.normal_equations.scale) * targets.num_classes < SMALL:
            block = concatenate(design.blocks())
            self._whole = (block.x.astype(self._dtype), *self._targets_of(block))

    def loss_sums(self, model: LinearModel) -> LossSums:
        """See `Passes`."""
        if self._whole is not None:
            return loss_sums(*self._whole, model)
        # The model is converted once for all blocks.
        converted = LinearModel(*(part.astype(self._dtype, copy=False) for part in model))
        of_block, blocks = partial(self._of_block, model=converted), self._design.blocks()
        parts: Iterable[LossSums] = map(of_block, blocks)
        if self._num_threads > 1:
            parts = in_order(of_block, blocks, self._num_threads)
        return reduce(LossSums.plus, parts)

    def curvature(self, model: LinearModel) -> SufficientStatistics:
        """See `Passes`."""
        accumulator = StatisticsAccumulator(len(self._design.normal_equations.scale), 0)
        for block in self._design.blocks():
            x = block.x.astype(np.float64)
            probabilities = softmax(model.logits(x), axis=1)
            weights = self._targets.sample_weights[block.positions]
            curvatures = weights * (probabilities * (1 - probabilities)).mean(axis=1)
            accumulator.add(block_statistics(x, np.empty((len(x), 0)), curvatures))
        return accumulator.statistics()

    def factor(self, matrix: Float64Array) -> Factor:
        """See `Passes`."""
        return CpuFactor(matrix)

    def _of_block(self, block: RowBlock, model: LinearModel) -> LossSums:
        return loss_sums(block.x.astype(self._dtype, copy=False), *self._targets_of(block), model)

    def _targets_of(self, block: RowBlock) -> tuple[NDArray[np.int64], Float64Array]:
        return self._column[self._targets.classes[block.positions]], self._targets.sample_weights[block.positions]
