"""Designs: the training rows of one layer as the solvers want them, with one of the folds held out or with none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from headstart.base.threads import in_order
from headstart.linear.moments import Array, Linear, Moments, MomentSums, Products, Ridge, floored_scale, products_of
from headstart.linear.rows import Block, Mask, Rows, merged
from headstart.linear.targets import Targets

Result = TypeVar("Result")
_MANY = 10**9


@dataclass(frozen=True)
class Machine:
    """What computes.

    Attributes:
        num_threads: Threads of the CPU.
        device: `cpu`, or the GPU for what is worth it, such as `cuda:0`.
    """

    num_threads: int
    device: str


@dataclass(frozen=True)
class Design:
    """Some training rows, in columns that were shifted and divided, and projected on fewer where rows are few.

    Attributes:
        ridge: Ridge regression on the rows.
        held: Moments of the rows that are held out, None if none are.
        blocks: Gives the rows, float32 (B, r), each time anew.
        centre: (dim,) what the layer's columns were shifted by.
        unit: (dim,) what they were divided by.
        basis: (dim, r) what they were projected on; None if they were not.
    """

    ridge: Ridge
    held: Moments | None
    blocks: Callable[[], Iterator[Block]]
    centre: Array
    unit: Array
    basis: Array | None

    def from_embeddings(self, fit: Linear) -> Linear:
        """Return a fit on embeddings as one on the design's columns (its projection, where they are fewer)."""
        weight = fit.weight * self.unit
        bias = fit.bias + fit.weight @ self.centre
        return Linear(weight if self.basis is None else weight @ self.basis, bias)

    def on_embeddings(self, fit: Linear) -> Linear:
        """Return a fit on the design's columns as one on embeddings."""
        weight = (fit.weight if self.basis is None else fit.weight @ self.basis.T) / self.unit
        return Linear(weight, fit.bias - weight @ self.centre)


def are_many(rows: Rows, targets: Targets) -> bool:
    """Whether products with the rows take so long that float32 and a GPU pay: seconds on a core."""
    return rows.num * rows.dim * targets.num_classes > _MANY


class Designs:
    """The designs of one layer.

    Of many rows only moments are taken, of every fold, in one pass; those of the other folds add up to a design. Where
    rows are fewer than half the columns, each design projects them on as many columns as rows, which loses nothing (its
    solutions are combinations of rows) and makes all that follows faster.

    Args:
        rows: The layer's.
        targets: Targets of these rows.
        num_folds: Number of folds.
        machine: What computes, here and in all that takes the designs.

    Attributes:
        dtype: In which rows are multiplied: float64, or float32 where rows are many.
    """

    def __init__(self, rows: Rows, targets: Targets, num_folds: int, machine: Machine) -> None:
        self.rows, self.targets, self.num_folds, self.machine = rows, targets, num_folds, machine
        self.dtype = np.dtype(np.float32 if are_many(rows, targets) else np.float64)
        self._folds = [] if self._are_few(rows.num) else self._sum_folds()

    def each_fold(self, function: Callable[[int], Result]) -> list[Result]:
        """Return what a function gives for every fold, computed by threads."""
        return list(in_order(function, range(self.num_folds), self.machine.num_threads))

    def without(self, fold: int | None) -> Design:
        """Return the design of the rows of all other folds, or of all rows."""
        held = self.rows.folds == fold
        if not self._folds:
            return self._projected(~held, held)
        others = Moments.total([moments for other, moments in enumerate(self._folds) if other != fold])
        return self._of_moments(others, None if fold is None else self._folds[fold], ~held)

    def of(self, chosen: Mask) -> Design:
        """Return the design of some rows, (N,)."""
        if self._are_few(int(chosen.sum())):
            return self._projected(chosen, np.zeros_like(chosen))
        sums = MomentSums(self.rows.dim, self.targets.num_classes)
        for block in self.rows.blocks(chosen):
            sums.add(self._products(self._near(block), block.positions))
        return self._of_moments(sums.moments(), None, chosen)

    def _are_few(self, num: int) -> bool:
        return 2 * num < self.rows.dim

    def _sum_folds(self) -> list[Moments]:
        sums = [MomentSums(self.rows.dim, self.targets.num_classes) for _ in range(self.num_folds)]
        for fold, products in in_order(self._products_of, self.rows.blocks(), self.machine.num_threads):
            sums[fold].add(products)
        return [each.moments() for each in sums]

    def _products_of(self, block: Block) -> tuple[int, Products]:
        fold = int(self.rows.folds[block.positions[0]])
        return fold, self._products(self._near(block), block.positions)

    def _products(self, x: NDArray[np.floating[Any]], positions: NDArray[np.intp]) -> Products:
        return products_of(x, self.targets.one_hot(positions), self.targets.weights[positions])

    def _near(self, block: Block) -> NDArray[np.floating[Any]]:
        if not self.rows.shift.any():
            return block.x.astype(self.dtype, copy=False)
        return ((block.x - self.rows.shift) / self.rows.unit).astype(self.dtype)

    def _of_moments(self, moments: Moments, held: Moments | None, chosen: Mask) -> Design:
        unit = self.rows.unit
        scale = floored_scale(moments.variance() * unit**2) / unit
        return Design(Ridge.of(moments, scale), held, lambda: self._blocks(chosen), self.rows.shift, unit, None)

    def _blocks(self, chosen: Mask) -> Iterator[Block]:
        for block in self.rows.blocks(chosen):
            yield Block(block.positions, self._near(block).astype(np.float32, copy=False))

    def _projected(self, chosen: Mask, held: Mask) -> Design:
        block = merged(self.rows.blocks(chosen))
        x, weights = block.x.astype(np.float64), self.targets.weights[block.positions]
        centre = weights @ x / weights.sum()
        scale = floored_scale(weights @ (x - centre) ** 2 / weights.sum())
        standard = (x - centre) / scale
        basis, _ = qr(standard.T, mode="economic")
        fewer = Block(block.positions, (standard @ basis).astype(np.float32))
        ridge = Ridge.of(self._moments_of(standard @ basis, block), np.ones(basis.shape[1]))
        held_moments = None
        if held.any():
            other = merged(self.rows.blocks(held))
            held_moments = self._moments_of(((other.x - centre) / scale) @ basis, other)
        return Design(ridge, held_moments, lambda: iter([fewer]), centre, scale, basis)

    def _moments_of(self, x: Array, block: Block) -> Moments:
        sums = MomentSums(x.shape[1], self.targets.num_classes)
        sums.add(self._products(x, block.positions))
        return sums.moments()
