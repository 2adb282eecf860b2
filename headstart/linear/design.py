"""Design matrices: training rows in the columns that the solvers use, and ridge regression on them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.base.threads import in_order
from headstart.linear.layer_rows import LayerRows, Mask, RowBlock, concatenate
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.on_gpu import OnGpu
from headstart.linear.ridge import NormalEquations, kernel_ridge
from headstart.linear.sufficient_statistics import (
    BlockStatistics,
    StatisticsAccumulator,
    SufficientStatistics,
    block_statistics,
    without_rounding,
)
from headstart.linear.targets import Targets

Result = TypeVar("Result")
_LARGE = 10**9  # multiplications in one product of the rows with the weights of all classes


@dataclass(frozen=True)
class Resources:
    """What the computations may use.

    Attributes:
        num_threads: Number of CPU threads.
        device: Where the rows are summed over: `cpu`, or the name of a GPU that has float64, such as `cuda:0`.
    """

    num_threads: int
    device: str


@dataclass(frozen=True)
class DesignMatrix:
    """Some training rows, in r columns.

    The columns of a row with embedding e are z = ((e - shift) / divisor) @ basis. Without a basis, r is dim and the
    last product is left out.

    Attributes:
        normal_equations: Ridge regression on these rows and columns.
        blocks: Returns an iterator over the rows, float32 (B, r). Each call starts a new pass.
        shift: float64 (dim,).
        divisor: float64 (dim,).
        basis: float64 (dim, r), orthonormal columns; r is at most the number of rows. None: no projection.
        mask: bool (N,), true for the rows.
        on_gpu: These rows, and perhaps more, on a GPU.
    """

    normal_equations: NormalEquations
    blocks: Callable[[], Iterator[RowBlock]]
    shift: Float64Array
    divisor: Float64Array
    basis: Float64Array | None
    mask: Mask
    on_gpu: OnGpu

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
    """The design matrices of some layers, for any subset of the rows.

    Each column is standardised (`column_scale`). If there are at least as many rows as columns, sufficient statistics
    give the normal equations. One pass computes the statistics of every fold. Those of all other folds add up to the
    statistics without a fold.

    If there are fewer rows than columns, a design matrix projects its rows on an orthonormal basis of the space that
    they span (QR decomposition). This loses nothing: the solution of a problem with an L2 penalty is a combination of
    the rows (ESL, section 18.3.5; Hastie & Tibshirani 2004). It makes all that follows faster.

    Args:
        rows: Training rows of the layers.
        targets: Targets of these rows.
        num_folds: Number of folds, F.
        resources: What the computations may use, here and in all functions that take the design matrices.
        fold_statistics: Statistics of every fold, if they are known: those of `statistics_of_folds`.
        on_gpu: The rows on the GPU, if they are there: those of `rows_on_gpu`.
    """

    def __init__(
        self,
        rows: LayerRows,
        targets: Targets,
        num_folds: int,
        resources: Resources,
        fold_statistics: Sequence[SufficientStatistics] | None = None,
        *,
        on_gpu: OnGpu | None = None,
    ) -> None:
        self.rows, self.targets, self.num_folds, self.resources = rows, targets, num_folds, resources
        is_wide = self._is_wide(rows.num_rows)
        if on_gpu is None:
            on_gpu = OnGpu() if is_wide else rows_on_gpu(rows, targets, resources)
        if fold_statistics is None and not is_wide:
            fold_statistics = statistics_of_folds(rows, targets, num_folds, resources, on_gpu)
        self._on_gpu, self._fold_statistics = on_gpu, fold_statistics

    def map_folds(self, function: Callable[[int], Result]) -> list[Result]:
        """Call a function with the number of every fold, in several threads, and return the results by fold."""
        return list(in_order(function, range(self.num_folds), self.resources.num_threads))

    def all_rows(self) -> Mask:
        """Return a mask that is true for all rows, bool (N,)."""
        return np.ones(self.rows.num_rows, dtype=bool)

    def without_fold(self, fold: int) -> Mask:
        """Return a mask that is true for the rows of all other folds, bool (N,)."""
        return self.rows.folds != fold

    def design(self, mask: Mask) -> DesignMatrix:
        """Return the design matrix of the rows where the mask, bool (N,), is true."""
        return self._projected(mask) if self._is_wide(int(mask.sum())) else self._standardised(mask)

    def standardisation(self, mask: Mask) -> tuple[Float64Array, Float64Array]:
        """Return mean and scale of the columns of the embeddings over the rows in the mask, float64 (dim,) each."""
        if self._is_wide(int(mask.sum())):
            _, mean, scale, _ = self._standardised_rows(mask)
            return mean, scale
        equations, divisor = self._standardised(mask).normal_equations, self.rows.divisor
        return equations.mean * divisor + self.rows.shift, equations.scale * divisor

    def ridge(self, mask: Mask, c: float) -> LinearModel:
        """Fit ridge regression to the rows where the mask, bool (N,), is true. Return the model on embeddings.

        Args:
            mask: Rows to fit.
            c: Inverse regularisation strength, positive.
        """
        if not self._is_wide(int(mask.sum())):
            design = self._standardised(mask)
            return design.to_embedding_columns(design.normal_equations.solve(c))
        block, mean, scale, x = self._standardised_rows(mask)
        targets, sample_weights = self.targets.one_hot(block.positions), self.targets.sample_weights[block.positions]
        dual, bias = kernel_ridge(x @ x.T, targets, sample_weights, c)
        weight = dual.T @ x / scale
        return LinearModel(weight, bias - weight @ mean)

    def _is_wide(self, num_rows: int) -> bool:
        return num_rows < self.rows.dim

    def _statistics_of(self, mask: Mask) -> SufficientStatistics:
        """Return the statistics of the rows in the mask. Those of whole folds need no pass through the rows."""
        whole = [fold for fold in range(self.num_folds) if mask[self.rows.folds == fold].all()]
        if self._fold_statistics is not None and np.isin(self.rows.folds[mask], whole).all():
            return SufficientStatistics.total([self._fold_statistics[fold] for fold in whole])
        found = self._on_gpu.compute(lambda on_gpu: on_gpu.statistics(mask))
        if found is not None:
            return found
        accumulator = StatisticsAccumulator(self.rows.dim, self.targets.num_classes)
        for block in self.rows.blocks(mask):
            accumulator.add(_statistics_of_block(self.rows, self.targets, block))
        return accumulator.statistics()

    def _standardised(self, mask: Mask) -> DesignMatrix:
        """Return the design matrix of the rows in the mask without a projection."""
        statistics, divisor = self._statistics_of(mask), self.rows.divisor
        scale = column_scale(statistics.variance() * divisor**2, self.rows.columns) / divisor
        equations = NormalEquations.from_statistics(statistics, scale)

        def blocks() -> Iterator[RowBlock]:
            return map(partial(_float32_block, self.rows), self.rows.blocks(mask))

        return DesignMatrix(equations, blocks, self.rows.shift, divisor, None, mask, self._on_gpu)

    def _standardised_rows(self, mask: Mask) -> tuple[RowBlock, Float64Array, Float64Array, Float64Array]:
        """Return the rows in the mask, mean and scale of their columns, and the standardised rows, float64 (B, dim)."""
        block = concatenate(self.rows.blocks(mask))
        x, sample_weights = block.x.astype(np.float64), self.targets.sample_weights[block.positions]
        mean = sample_weights @ x / sample_weights.sum()
        x -= mean
        variance = without_rounding(sample_weights @ x**2 / sample_weights.sum(), mean)
        scale = column_scale(variance, self.rows.columns)
        return block, mean, scale, x / scale

    def _projected(self, mask: Mask) -> DesignMatrix:
        """Return the design matrix of the rows in the mask, projected on the space that they span."""
        block, mean, scale, standardised = self._standardised_rows(mask)
        basis, _ = np.linalg.qr(standardised.T)  # SciPy's would not let other threads run
        x = standardised @ basis
        accumulator = StatisticsAccumulator(x.shape[1], self.targets.num_classes)
        accumulator.add(_block_statistics(x, self.targets, block.positions))
        equations = NormalEquations.from_statistics(accumulator.statistics(), np.ones(basis.shape[1]))
        projected = RowBlock(block.positions, x.astype(np.float32))
        on_gpu = OnGpu.upload([projected], np.where(mask, 0, -1), self.targets, self.resources.device)
        return DesignMatrix(equations, lambda: iter([projected]), mean, scale, basis, mask, on_gpu)


def rows_on_gpu(rows: LayerRows, targets: Targets, resources: Resources) -> OnGpu:
    """Copy the rows to the GPU that the computations may use, less their shift and divided by their divisor."""
    blocks = in_order(partial(_float32_block, rows), rows.blocks(), resources.num_threads)
    return OnGpu.upload(blocks, rows.folds, targets, resources.device)


def statistics_of_folds(
    rows: LayerRows, targets: Targets, num_folds: int, resources: Resources, on_gpu: OnGpu
) -> list[SufficientStatistics]:
    """Return the statistics of every fold, by one pass through the rows, less their shift and divided by their divisor.

    Products are computed in float32 on a GPU or if the problem is large (`is_large`), otherwise in float64.
    """
    found = on_gpu.compute(lambda on_gpu: [on_gpu.statistics(rows.folds == fold) for fold in range(num_folds)])
    if found is not None:
        return found

    def fold_and_statistics(block: RowBlock) -> tuple[int, BlockStatistics]:
        return int(rows.folds[block.positions[0]]), _statistics_of_block(rows, targets, block)

    accumulators = [StatisticsAccumulator(rows.dim, targets.num_classes) for _ in range(num_folds)]
    for fold, statistics in in_order(fold_and_statistics, rows.blocks(), resources.num_threads):
        accumulators[fold].add(statistics)
    return [accumulator.statistics() for accumulator in accumulators]


def _shifted(rows: LayerRows, block: RowBlock, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the rows of a block near zero, (B, dim): less the shift, divided by the divisor."""
    if not rows.shift.any():
        return block.x.astype(dtype, copy=False)
    return ((block.x - rows.shift) / rows.divisor).astype(dtype)


def _float32_block(rows: LayerRows, block: RowBlock) -> RowBlock:
    return RowBlock(block.positions, _shifted(rows, block, np.dtype(np.float32)))


def column_scale(variance: Float64Array, columns: Mapping[str, slice]) -> Float64Array:
    """Return what to divide each column by, float64 (dim,): its regularised scale, times a factor of its layer.

    The factors make the sum of the variances equal for all layers, whatever their widths. Otherwise a wide layer would
    drown a narrow one. They keep the sum over all columns, so that a strength means the same for one layer and for
    several. The factor of a single layer is 1.

    Args:
        variance: float64 (dim,), variance of each column.
        columns: Columns of each layer, by name.
    """
    factors = layer_factors(columns)
    return np.concatenate([regularised_scale(variance[part]) * factors[layer] for layer, part in columns.items()])


def layer_factors(columns: Mapping[str, slice]) -> dict[str, float]:
    """Return the factor of each layer for `column_scale`: sqrt(width of the layer / mean width of the layers)."""
    widths = {layer: part.stop - part.start for layer, part in columns.items()}
    mean = sum(widths.values()) / len(widths)
    return {layer: float(np.sqrt(width / mean)) for layer, width in widths.items()}


def regularised_scale(variance: Float64Array) -> Float64Array:
    """Return what to divide each column of a layer by, float64 (dim,): sqrt(v + v0), v0 the median of the positive v.

    Nearest shrunken centroids protect against small variances with a similar constant (ESL, section 18.2). The plain
    standard deviation blows up columns that are almost always zero, as after a ReLU. A held-out image that does excite
    such a column got logits of 100 and, if it was wrong, a loss of 90 nats (docs/explanation/decisions.md has the
    numbers).

    Args:
        variance: float64 (dim,), variance v of each column, not negative.
    """
    varying = variance[variance > 0]
    return np.sqrt(variance + (np.median(varying) if len(varying) else 1.0))


def _statistics_of_block(rows: LayerRows, targets: Targets, block: RowBlock) -> BlockStatistics:
    dtype: np.dtype[Any] = np.dtype(np.float32 if is_large(rows, targets) else np.float64)
    return _block_statistics(_shifted(rows, block, dtype), targets, block.positions)


def _block_statistics(x: NDArray[np.floating[Any]], targets: Targets, positions: NDArray[np.intp]) -> BlockStatistics:
    return block_statistics(x, targets.one_hot(positions), targets.sample_weights[positions])
