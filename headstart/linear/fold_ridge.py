"""Ridge regression without each fold, on any set of layers and at any strength, from one pass through the rows.

It compares sets of layers. So the columns are standardised by all rows, held-out ones included: what every set and fold
needs is then computed only once. This uses no label, unless classes have weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.base.threads import in_order
from headstart.linear.design import Resources, layer_factors, regularised_scale, rows_on_gpu, statistics_of_folds
from headstart.linear.layer_rows import LayerRows, RowBlock, concatenate
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.on_gpu import OnGpu
from headstart.linear.ridge import NormalEquations, kernel_ridge
from headstart.linear.sufficient_statistics import SufficientStatistics, without_rounding
from headstart.linear.targets import Targets

LayerSet = tuple[str, ...]
# The normal equations of each fold are kept if they have at most so many columns: 42 MB for 5 folds.
_MAX_KEPT_COLUMNS = 1024


class FoldFits(NamedTuple):
    """Ridge regression on a set of layers, fitted without each fold at every c.

    Attributes:
        errors: float64 (F, S), the mean squared error on each held-out fold at each c.
        logits: Returns the out-of-fold logits at the c with the given position, float32 (N, C).
    """

    errors: Float64Array
    logits: Callable[[int], NDArray[np.float32]]


@dataclass(frozen=True)
class Problem:
    """The training rows of all layers, and what the computations may use.

    Attributes:
        rows: Training rows.
        targets: Targets of these rows.
        num_folds: Number of folds, F.
        resources: Threads and device.
    """

    rows: LayerRows
    targets: Targets
    num_folds: int
    resources: Resources

    @cached_property
    def on_gpu(self) -> OnGpu:
        """The rows on the GPU, if the computations may use one."""
        return rows_on_gpu(self.rows, self.targets, self.resources)


class FoldRidge:
    """Fits ridge regression on sets of layers.

    Statistics serve the sets with at most as many columns as there are rows without the largest fold. Kernels serve
    wider sets. Their matrices have the size of the columns and of the rows.

    Args:
        problem: The training rows.
    """

    def __init__(self, problem: Problem) -> None:
        rows = problem.rows
        self._num_rows = int(rows.num_rows - np.bincount(rows.folds).max())
        self._dims = {layer: part.stop - part.start for layer, part in rows.columns.items()}
        self._problem = problem

    @cached_property
    def _by_statistics(self) -> "_ByStatistics | None":
        narrow = [layer for layer, dim in self._dims.items() if dim <= self._num_rows]
        return _ByStatistics(self._problem, narrow) if narrow else None

    @cached_property
    def _by_kernels(self) -> "_ByKernels | None":
        return _ByKernels(self._problem) if self._is_wide(tuple(self._dims)) else None

    def fit(self, sets: Sequence[LayerSet], c_grid: Sequence[float]) -> list[FoldFits]:
        """Fit ridge regression without each fold, for every set of layers and every c.

        Args:
            sets: Sets of layers.
            c_grid: (S,) values of c, ascending.

        Raises:
            TrainingError: Ridge regression has no solution, because c is too large for the precision.
        """
        narrow = [layers for layers in sets if not self._is_wide(layers)]
        wide = [layers for layers in sets if self._is_wide(layers)]
        fits: dict[LayerSet, FoldFits] = {}
        if narrow:
            assert self._by_statistics is not None, "a narrow set has narrow layers"
            fits |= zip(narrow, self._by_statistics.fit(narrow, c_grid), strict=True)
        if wide:
            assert self._by_kernels is not None, "all layers together are at least as wide"
            fits |= ((layers, self._by_kernels.fit(layers, c_grid)) for layers in wide)
        return [fits[layers] for layers in sets]

    def statistics(self, layers: LayerSet) -> list[SufficientStatistics] | None:
        """Return the statistics of every fold for some layers; None if they were not computed."""
        if self._by_statistics is None or not self._by_statistics.has(layers):
            return None
        return self._by_statistics.statistics(layers)

    def on_gpu(self, layers: LayerSet) -> OnGpu | None:
        """Return the rows of some layers on the GPU; None if their statistics were not computed."""
        if self._is_wide(layers):
            return None
        return self._problem.on_gpu.select(self._problem.rows.positions_of(layers))

    def _is_wide(self, layers: LayerSet) -> bool:
        return sum(self._dims[layer] for layer in layers) > self._num_rows


class _ByStatistics:
    """Ridge regression from the sufficient statistics of every fold."""

    def __init__(self, problem: Problem, layers: Sequence[str]) -> None:
        self._problem = problem
        self._kept: dict[int, NormalEquations] = {}
        rows = self._rows = problem.rows.select(layers)
        self._fold_statistics = statistics_of_folds(
            rows,
            problem.targets,
            problem.num_folds,
            problem.resources,
            problem.on_gpu.select(problem.rows.positions_of(layers)),
        )
        variance = SufficientStatistics.total(self._fold_statistics).variance()
        # The statistics are those of shifted columns, and `divisor` only protects the numerics.
        variance *= rows.divisor**2
        parts = rows.columns.values()
        self._scale = np.concatenate([regularised_scale(variance[part]) for part in parts]) / rows.divisor

    def has(self, layers: LayerSet) -> bool:
        return set(layers) <= set(self._rows.columns)

    def statistics(self, layers: LayerSet) -> list[SufficientStatistics]:
        columns = self._rows.positions_of(layers)
        return [statistics.select(columns) for statistics in self._fold_statistics]

    def fit(self, sets: Sequence[LayerSet], c_grid: Sequence[float]) -> list[FoldFits]:
        def fit_without(fold: int) -> list[tuple[list[float], list[LinearModel]]]:
            equations = self._equations_without(fold)
            return [self._fit_set(equations, self._fold_statistics[fold], layers, c_grid) for layers in sets]

        folds = range(self._problem.num_folds)
        by_fold = list(in_order(fit_without, folds, self._problem.resources.num_threads))
        return [
            FoldFits(
                np.array([of_sets[number][0] for of_sets in by_fold]),
                self._logits_of(layers, [of_sets[number][1] for of_sets in by_fold]),
            )
            for number, layers in enumerate(sets)
        ]

    def _equations_without(self, fold: int) -> NormalEquations:
        """Return the normal equations of the rows of all other folds, for all columns."""
        if fold in self._kept:
            return self._kept[fold]
        others = [statistics for other, statistics in enumerate(self._fold_statistics) if other != fold]
        equations = NormalEquations.from_statistics(SufficientStatistics.total(others), self._scale)
        if self._rows.dim <= _MAX_KEPT_COLUMNS:
            self._kept[fold] = equations
        return equations

    def _fit_set(
        self, equations: NormalEquations, held_out: SufficientStatistics, layers: LayerSet, c_grid: Sequence[float]
    ) -> tuple[list[float], list[LinearModel]]:
        """Return the error on the held-out fold and the model on the shifted columns of the set, for every c."""
        columns, divisor = self._rows.positions_of(layers), _factors(self._rows, layers)
        equations, held_out = equations.select(columns, divisor), held_out.select(columns)
        models = [equations.solve(c) for c in c_grid]
        return [held_out.squared_error(model) / held_out.sum_w for model in models], models

    def _logits_of(
        self, layers: LayerSet, models: Sequence[Sequence[LinearModel]]
    ) -> Callable[[int], NDArray[np.float32]]:
        """Return a function that computes the out-of-fold logits at one c, for models by fold and c."""

        def logits_at(position: int) -> NDArray[np.float32]:
            problem, rows = self._problem, self._rows
            columns = rows.positions_of(layers)
            is_all = len(columns) == rows.dim
            logits = np.empty((rows.num_rows, problem.targets.num_classes), dtype=np.float32)

            def fill(block: RowBlock) -> None:
                weight, bias = models[int(rows.folds[block.positions[0]])][position]
                weight = weight / rows.divisor[columns]
                model = LinearModel(weight, bias - weight @ rows.shift[columns])
                logits[block.positions] = model.logits(block.x if is_all else block.x[:, columns])

            for _ in in_order(fill, rows.blocks(), problem.resources.num_threads):
                pass
            return logits

        return logits_at


class _ByKernels:
    """Ridge regression from the kernel of every layer, (N, N): the products of its standardised rows."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        rows, targets = problem.rows, problem.targets
        block = concatenate(rows.blocks())
        order = np.argsort(block.positions)
        self._sample_weights = targets.sample_weights
        self._target = targets.one_hot(np.arange(rows.num_rows))
        self._kernels: dict[str, Float64Array] = {}
        for layer, part in rows.columns.items():
            x = block.x[order, part].astype(np.float64)
            mean = np.average(x, axis=0, weights=self._sample_weights)
            x -= mean
            variance = np.average(x**2, axis=0, weights=self._sample_weights)
            x /= regularised_scale(without_rounding(variance, mean))
            self._kernels[layer] = x @ x.T

    def fit(self, layers: LayerSet, c_grid: Sequence[float]) -> FoldFits:
        factors = layer_factors({layer: self._problem.rows.columns[layer] for layer in layers})
        kernel = np.sum([self._kernels[layer] / factors[layer] ** 2 for layer in layers], axis=0)
        logits = np.empty((len(c_grid), *self._target.shape), dtype=np.float32)
        folds, resources = self._problem.rows.folds, self._problem.resources

        def errors_of(fold: int) -> list[float]:
            held_out, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            within, across = kernel[np.ix_(others, others)], kernel[np.ix_(held_out, others)]
            weights, errors = self._sample_weights[held_out], []
            for position, c in enumerate(c_grid):
                dual, bias = kernel_ridge(within, self._target[others], self._sample_weights[others], c)
                found = across @ dual + bias
                logits[position, held_out] = found
                squared = ((found - self._target[held_out]) ** 2).sum(axis=1)
                errors.append(float(weights @ squared / weights.sum()))
            return errors

        errors = list(in_order(errors_of, range(self._problem.num_folds), resources.num_threads))
        return FoldFits(np.array(errors), lambda position: logits[position])


def _factors(rows: LayerRows, layers: LayerSet) -> Float64Array:
    """Return the factor of every column of a set of layers, float64 (sum of their dims,)."""
    columns = {layer: rows.columns[layer] for layer in layers}
    widths = [part.stop - part.start for part in columns.values()]
    return np.repeat(list(layer_factors(columns).values()), widths)
