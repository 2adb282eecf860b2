"""Logistic regression with many classes: the solution of scikit-learn's LogisticRegression, from blocks of rows.

The problem is preconditioned by the second moments of the rows, which ridge regression has made already: where all
classes are equally unsure they are the Hessian (Boehning 1992), so that L-BFGS needs tens of passes, not hundreds.
"""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize, minimize_scalar

from headstart.base.threads import in_order
from headstart.linear.calibration import log_losses
from headstart.linear.designs import Design, Machine
from headstart.linear.moments import Array, Linear
from headstart.linear.rows import Block, merged
from headstart.linear.sums import Sums, sums_of
from headstart.linear.targets import Targets

# Rounding in float32 hides smaller gradients.
_SMALLEST_IN_FLOAT32 = 1e-4
_LOG_FACTORS = (-2.0, 7.0)  # of a start
_SMALL = 10**7  # multiplications in a pass, below which blocks and threads cost more than they give


class LogisticFit(NamedTuple):
    """A solution.

    Attributes:
        fit: A fit on the design's columns.
        converged: Whether it was reached within the allowed number of iterations.
    """

    fit: Linear
    converged: bool


def fit_logistic(
    design: Design, targets: Targets, c: float, start: Linear, max_iter: int, *, tol: float, machine: Machine
) -> LogisticFit:
    """Minimise the rows' weighted log loss plus the squared weights of the standardised columns divided by 2 c.

    For two classes c counts as in scikit-learn, which has one vector of weights for them. A class without rows gets
    weights of zero and the bias that makes it at most 1 / (N + 1) as probable as all others, for every row.

    Args:
        design: The rows.
        targets: Targets of all training rows.
        c: Inverse strength of regularisation.
        start: A fit on the design's columns to start from. A nearer one is faster; the solution is the same. It need
            not be scaled.
        max_iter: Most iterations.
        tol: Largest gradient of the mean loss at which it ends, in unknowns in which its curvature is about 1.
        machine: What computes; the result does not depend on its threads.
    """
    problem = _Problem(design, targets, c, start, exact=tol < _SMALLEST_IN_FLOAT32, machine=machine)
    if problem.is_trivial:
        return LogisticFit(problem.solution(problem.start * 0), converged=True)
    done = minimize(
        problem.loss_and_gradient,
        problem.start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "maxfun": 2 * max_iter, "gtol": tol, "ftol": 0.0, "maxcor": 10},
    )
    return LogisticFit(problem.solution(done.x), bool(done.nit < max_iter))


class _Problem:
    """The mean loss as a function of U and b; U times the inverse factor of the expected Hessian are the weights."""

    def __init__(
        self, design: Design, targets: Targets, c: float, start: Linear, *, exact: bool, machine: Machine
    ) -> None:
        self._targets = targets
        self._mean, self._scale = design.ridge.mean, design.ridge.scale
        self._num = design.ridge.weight
        self._present = np.flatnonzero(design.ridge.target_mean > 0)
        self._column = np.full(targets.num_classes, -1)
        self._column[self._present] = np.arange(len(self._present))
        self._read = _reader(design, targets, self._column, exact=exact, machine=machine)
        self._penalty = (2 if len(self._present) == 2 else 1) / (c * self._num)
        start = self._stretched(start, next(design.blocks()))
        weight = start.weight[self._present] * self._scale
        bias = start.bias[self._present] + start.weight[self._present] @ self._mean
        curvature = max(len(self._present) - 1, 1) / len(self._present) ** 2  # p (1 - p) where all are as probable
        self._root_curvature = np.sqrt(curvature)
        hessian = np.multiply(design.ridge.gram, curvature / self._num, order="F")
        hessian[np.diag_indices_from(hessian)] += self._penalty
        self._factor = cholesky(hessian, lower=True, overwrite_a=True)
        self.start = np.concatenate([(weight @ self._factor).ravel(), bias * self._root_curvature])

    def _stretched(self, start: Linear, block: Block) -> Linear:
        """Return the start times the factor of least loss: the logits of ridge regression lie between 0 and 1."""
        logits, classes = start.logits(block.x), self._targets.classes[block.positions]
        penalty = self._penalty / 2 * float(((start.weight * self._scale) ** 2).sum())

        def loss(log_factor: float) -> float:
            factor = float(np.exp(log_factor))
            return float(log_losses(logits, classes, 1 / factor).mean()) + penalty * factor**2

        factor = np.exp(minimize_scalar(loss, bounds=_LOG_FACTORS, method="bounded", options={"xatol": 0.1}).x)
        return Linear(start.weight * factor, start.bias * factor)

    @property
    def is_trivial(self) -> bool:
        """Whether there is one class only."""
        return len(self._present) == 1

    def solution(self, unknowns: Array) -> Linear:
        """Return the weights on the design's columns, of all classes."""
        weight, bias = self._weight_and_bias(unknowns)
        num_classes = self._targets.num_classes
        full = Linear(np.zeros((num_classes, len(self._scale))), np.zeros(num_classes))
        full.weight[self._present] = weight / self._scale
        full.bias[self._present] = bias - full.weight[self._present] @ self._mean
        if len(self._present) < num_classes:
            full.bias[self._column < 0] = self._sums(weight, bias).lowest - np.log(len(self._targets.classes) + 1)
        return full

    def loss_and_gradient(self, unknowns: Array) -> tuple[float, Array]:
        """Return the mean loss with the penalty, and its gradient."""
        weight, bias = self._weight_and_bias(unknowns)
        sums = self._sums(weight, bias)
        loss = sums.loss / self._num + self._penalty / 2 * float((weight**2).sum())
        gradient = sums.weight / self._num + self._penalty * weight
        by_unknowns = solve_triangular(self._factor, gradient.T, lower=True).T
        return loss, np.concatenate([by_unknowns.ravel(), sums.bias / (self._num * self._root_curvature)])

    def _weight_and_bias(self, unknowns: Array) -> tuple[Array, Array]:
        split = len(self._present) * len(self._scale)
        scaled = unknowns[:split].reshape(len(self._present), -1)
        weight = solve_triangular(self._factor, scaled.T, lower=True, trans="T").T
        return weight, unknowns[split:] / self._root_curvature

    def _sums(self, weight: Array, bias: Array) -> Sums:
        """Read the rows once: the sums, by the weights and biases of the standardised columns."""
        scaled = weight / self._scale
        parts = self._read(Linear(scaled, bias - scaled @ self._mean))
        total = reduce(Sums.plus, parts)
        by_weight = total.weight / self._scale - np.outer(total.bias, self._mean / self._scale)
        return total._replace(weight=by_weight)


def _reader(
    design: Design, targets: Targets, column: NDArray[np.int64], *, exact: bool, machine: Machine
) -> Callable[[Linear], Iterable[Sums]]:
    """Return what goes through the rows, a block at a time, for weights on the design's columns.

    Not a method: what a problem holds must not hold the problem, or its matrices stay until Python looks for cycles.
    """

    def of_block(block: Block) -> tuple[NDArray[np.int64], Array]:
        return column[targets.classes[block.positions]], targets.weights[block.positions]

    dtype: np.dtype[Any] = np.dtype(np.float64 if exact else np.float32)

    def sums(block: Block, on_rows: Linear) -> Sums:
        return sums_of(block.x.astype(dtype, copy=False), *of_block(block), on_rows)

    def in_precision(on_rows: Linear) -> Linear:  # once for all blocks
        return Linear(*(part.astype(dtype, copy=False) for part in on_rows))

    if machine.device != "cpu":
        from headstart.linear.gpu import GpuRows  # torch: seconds

        blocks = [GpuRows(block, *of_block(block), device=machine.device, exact=exact) for block in design.blocks()]
        return lambda on_rows: (rows.sums(on_rows) for rows in blocks)
    if len(targets.classes) * len(design.ridge.scale) * targets.num_classes < _SMALL:
        block = merged(design.blocks())
        return lambda on_rows: [sums(block, on_rows)]
    if machine.num_threads == 1:
        return lambda on_rows: map(partial(sums, on_rows=in_precision(on_rows)), design.blocks())
    return lambda on_rows: in_order(partial(sums, on_rows=in_precision(on_rows)), design.blocks(), machine.num_threads)
