"""Design matrices: the training rows of one layer in the columns that the solvers use, with or without one fold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from headstart.base.threads import in_order
from headstart.linear.layer_rows import LayerRows, Mask, RowBlock, concatenate
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.ridge import NormalEquations
from headstart.linear.sufficient_statistics import (
    BlockStatistics,
    StatisticsAccumulator,
    SufficientStatistics,
    block_statistics,
)
from headstart.linear.targets import Targets

Result = TypeVar("Result")
_LARGE = 10**9  # multiplications in one product of the rows with the weights of all classes


@dataclass(frozen=True)
class Resources:
    """What the computations may use.

    Attributes:
        num_threads: Number of CPU threads.
        device: Where logistic regression computes: `cpu`, or the name of a GPU, such as `cuda:0`.
    """

    num_threads: int
    device: str


@dataclass(frozen=True)
class DesignMatrix:
    """Some training rows of a layer, in r columns.

    The columns of a row with embedding e are z = ((e - shift) / divisor) @ basis. Without a basis, r is dim and the
    last product is left out.

    Attributes:
        normal_equations: Ridge regression on these rows and columns.
        held_out: Statistics of the rows of the fold that is left out, in the same columns. None: no fold is left out.
        blocks: Returns an iterator over the rows, float32 (B, r). Each call starts a new pass.
        shift: float64 (dim,).
        divisor: float64 (dim,).
        basis: float64 (dim, r), orthonormal columns; r is at most the number of rows. None: no projection.
    """

    normal_equations: NormalEquations
    held_out: SufficientStatistics | None
    blocks: Callable[[], Iterator[RowBlock]]
    shift: Float64Array
    divisor: Float64Array
    basis: Float64Array | None

    def to_design_columns(self, model: LinearModel) -> LinearModel:
        """Convert a model on embeddings, weight (C, dim), to a model on these columns, weight (C, r).

        With a basis, this drops the part of the weights that is orthogonal to it.
        """
        weight = model.weight * self.divisor
        bias = model.bias + model.weight @ self.shift
        return LinearModel(weight if self.basis is None else weight @ self.basis, bias)

    def to_embedding_columns(self, model: LinearModel) -> LinearModel:
        """Convert a model on these columns, weight (C, r), to a model on embeddings, weight (C, dim)."""
        weight = (model.weight if self.basis is None else model.weight @ self.basis.T) / self.divisor
        return LinearModel(weight, model.bias - weight @ self.shift)


def is_large(rows: LayerRows, targets: Targets) -> bool:
    """Whether one pass through the rows takes seconds on a CPU core, so that float32 and a GPU are worth it."""
    return rows.num_rows * rows.dim * targets.num_classes > _LARGE


class DesignMatrices:
    """The design matrices of one layer: of all rows, of all folds but one, or of any subset.

    If there are many rows, one pass computes the sufficient statistics of every fold. The statistics of the other folds
    add up to those of a design matrix without a fold.

    If there are fewer rows than half the columns, each design matrix projects its standardised rows on an orthonormal
    basis of the space that they span (QR decomposition). This loses nothing: the solution of a problem with an L2
    penalty is a combination of the rows (ESL, section 18.3.5; Hastie & Tibshirani 2004). It makes all that follows
    faster.

    Args:
        rows: Training rows of the layer.
        targets: Targets of these rows.
        num_folds: Number of folds, F.
        resources: What the computations may use, here and in all functions that take the design matrices.

    Attributes:
        dtype: Precision of the products of rows: float32 if the problem is large (`is_large`), otherwise float64.
    """

    def __init__(self, rows: LayerRows, targets: Targets, num_folds: int, resources: Resources) -> None:
        self.rows, self.targets, self.num_folds, self.resources = rows, targets, num_folds, resources
        self.dtype = np.dtype(np.float32 if is_large(rows, targets) else np.float64)
        self._fold_statistics = [] if self._is_wide(rows.num_rows) else self._statistics_of_folds()

    def map_folds(self, function: Callable[[int], Result]) -> list[Result]:
        """Call a function with the number of every fold, in several threads, and return the results by fold."""
        return list(in_order(function, range(self.num_folds), self.resources.num_threads))

    def without_fold(self, fold: int) -> DesignMatrix:
        """Return the design matrix of the rows of all other folds. The fold is held out."""
        held_out = self.rows.folds == fold
        if not self._fold_statistics:
            return self._projected(~held_out, held_out)
        others = [statistics for other, statistics in enumerate(self._fold_statistics) if other != fold]
        return self._standardised(SufficientStatistics.total(others), self._fold_statistics[fold], ~held_out)

    def all_rows(self) -> DesignMatrix:
        """Return the design matrix of all rows. Nothing is held out."""
        everything = np.ones(self.rows.num_rows, dtype=bool)
        if not self._fold_statistics:
            return self._projected(everything, ~everything)
        return self._standardised(SufficientStatistics.total(self._fold_statistics), None, everything)

    def subset(self, mask: Mask) -> DesignMatrix:
        """Return the design matrix of the rows where the mask, bool (N,), is true. Nothing is held out."""
        if self._is_wide(int(mask.sum())):
            return self._projected(mask, np.zeros_like(mask))
        accumulator = StatisticsAccumulator(self.rows.dim, self.targets.num_classes)
        for block in self.rows.blocks(mask):
            accumulator.add(self._block_statistics(self._shifted(block), block.positions))
        return self._standardised(accumulator.statistics(), None, mask)

    def _is_wide(self, num_rows: int) -> bool:
        """Whether there are fewer rows than half the columns."""
        return 2 * num_rows < self.rows.dim

    def _statistics_of_folds(self) -> list[SufficientStatistics]:
        accumulators = [StatisticsAccumulator(self.rows.dim, self.targets.num_classes) for _ in range(self.num_folds)]
        for fold, statistics in in_order(self._fold_and_statistics, self.rows.blocks(), self.resources.num_threads):
            accumulators[fold].add(statistics)
        return [accumulator.statistics() for accumulator in accumulators]

    def _fold_and_statistics(self, block: RowBlock) -> tuple[int, BlockStatistics]:
        fold = int(self.rows.folds[block.positions[0]])
        return fold, self._block_statistics(self._shifted(block), block.positions)

    def _block_statistics(self, x: NDArray[np.floating[Any]], positions: NDArray[np.intp]) -> BlockStatistics:
        return block_statistics(x, self.targets.one_hot(positions), self.targets.sample_weights[positions])

    def _shifted(self, block: RowBlock) -> NDArray[np.floating[Any]]:
        """Return the rows of a block near zero, in the precision of the products."""
        if not self.rows.shift.any():
            return block.x.astype(self.dtype, copy=False)
        return ((block.x - self.rows.shift) / self.rows.divisor).astype(self.dtype)

    def _standardised(
        self, statistics: SufficientStatistics, held_out: SufficientStatistics | None, mask: Mask
    ) -> DesignMatrix:
        """Return the design matrix of the rows in the mask without a projection."""
        divisor = self.rows.divisor
        scale = regularised_scale(statistics.variance() * divisor**2) / divisor
        equations = NormalEquations.from_statistics(statistics, scale)
        return DesignMatrix(equations, held_out, lambda: self._float32_blocks(mask), self.rows.shift, divisor, None)

    def _float32_blocks(self, mask: Mask) -> Iterator[RowBlock]:
        for block in self.rows.blocks(mask):
            yield RowBlock(block.positions, self._shifted(block).astype(np.float32, copy=False))

    def _projected(self, mask: Mask, held_out: Mask) -> DesignMatrix:
        """Return the design matrix of the rows in the mask, standardised and projected on the space that they span."""
        block = concatenate(self.rows.blocks(mask))
        x, sample_weights = block.x.astype(np.float64), self.targets.sample_weights[block.positions]
        mean = sample_weights @ x / sample_weights.sum()
        scale = regularised_scale(sample_weights @ (x - mean) ** 2 / sample_weights.sum())
        standardised = (x - mean) / scale
        basis, _ = qr(standardised.T, mode="economic")
        projected = RowBlock(block.positions, (standardised @ basis).astype(np.float32))
        statistics = self._statistics_of(standardised @ basis, block)
        equations = NormalEquations.from_statistics(statistics, np.ones(basis.shape[1]))
        held_out_statistics = None
        if held_out.any():
            other = concatenate(self.rows.blocks(held_out))
            held_out_statistics = self._statistics_of(((other.x - mean) / scale) @ basis, other)
        return DesignMatrix(equations, held_out_statistics, lambda: iter([projected]), mean, scale, basis)

    def _statistics_of(self, x: Float64Array, block: RowBlock) -> SufficientStatistics:
        accumulator = StatisticsAccumulator(x.shape[1], self.targets.num_classes)
        accumulator.add(self._block_statistics(x, block.positions))
        return accumulator.statistics()


def regularised_scale(variance: Float64Array) -> Float64Array:
    """Return what to divide each column by, float64 (dim,): sqrt(v + v0), where v0 is the median of the positive v.

    Nearest shrunken centroids protect against small variances with a similar constant (ESL, section 18.2). The plain
    standard deviation blows up columns that are almost always zero, as after a ReLU. A held-out image that does excite
    such a column got logits of 100 and, if it was wrong, a loss of 90 nats (docs/explanation/decisions.md has the
    numbers).

    Args:
        variance: float64 (dim,), variance v of each column, not negative.
    """
    varying = variance[variance > 0]
    return np.sqrt(variance + (np.median(varying) if len(varying) else 1.0))
