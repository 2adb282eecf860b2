"""Logistic regression with many classes: the solution of scikit-learn's LogisticRegression, from blocks of rows.

The problem is preconditioned by the second moments of the rows, which ridge regression has made already: where all
classes are equally unsure they are the Hessian (Boehning 1992), so that L-BFGS needs tens of passes, not hundreds.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

from stages.core.parallel import in_order
from stages.head.designs import Design, Targets
from stages.head.moments import Array, Linear
from stages.head.rows import Block, merged

# Of the gradient of the mean loss, in unknowns in which its curvature is about 1. Measured on digits and ants & bees,
# c from 0.01 to 10: the exact one moves probabilities by at most 1e-4 (3e-6 up to c = 1), the quick one some by 0.05
# but the mean loss in its third digit only. Rounding in float32 hides gradients much smaller than the quick one.
_EXACT, _QUICK = 1e-7, 3e-4
_LEAST_CURVATURE = 1e-6
_SMALL = 10**7  # multiplications in a pass, below which blocks and threads cost more than they give


class LogisticFit(NamedTuple):
    """A solution.

    Attributes:
        fit: On the design's columns.
        converged: Whether it was reached within the allowed number of iterations.
    """

    fit: Linear
    converged: bool


def fit_logistic(
    design: Design, targets: Targets, c: float, start: Linear, max_iter: int, *, exact: bool, num_threads: int = 1
) -> LogisticFit:
    """Minimise the rows' weighted log loss plus the squared weights of the standardised columns divided by 2 c.

    For two classes c counts as in scikit-learn, which has one vector of weights for them. A class without rows gets
    weights of zero and the bias that makes it as probable as one row would: 1 / (N + 1) on (geometric) average.

    Args:
        design: The rows.
        targets: Of all training rows.
        c: Inverse strength of regularisation.
        start: On the design's columns; nearer is faster, the solution is the same.
        max_iter: Most iterations.
        exact: Products in float64 and a small tolerance; else float32 and one that is enough to compare strengths.
        num_threads: For the blocks of rows; the result does not depend on it.
    """
    dtype = np.dtype(np.float64 if exact else np.float32)
    problem = _Problem(design, targets, c, start, dtype=dtype, num_threads=num_threads)
    if problem.is_trivial:
        return LogisticFit(problem.solution(problem.start * 0), converged=True)
    done = minimize(
        problem.loss_and_gradient,
        problem.start,
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": max_iter,
            "maxfun": 2 * max_iter,
            "gtol": _EXACT if exact else _QUICK,
            "ftol": 0.0,
            "maxcor": 10,
        },
    )
    return LogisticFit(problem.solution(done.x), bool(done.nit < max_iter))


class _Sums(NamedTuple):
    """Weighted sums over the rows: loss, its gradients, spread of the probabilities, log of the partition function."""

    loss: float
    weight: Array  # (K, r) gradient by the weights of the standardised columns
    bias: Array  # (K,)
    curvature: float
    log_partition: float

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(
            self.loss + other.loss,
            self.weight + other.weight,
            self.bias + other.bias,
            self.curvature + other.curvature,
            self.log_partition + other.log_partition,
        )


class _Problem:
    """The mean loss as a function of U and b; U times the inverse factor of the expected Hessian are the weights."""

    def __init__(
        self, design: Design, targets: Targets, c: float, start: Linear, *, dtype: np.dtype[Any], num_threads: int
    ) -> None:
        self._blocks, self._targets, self._dtype = design.blocks, targets, dtype
        self._mean, self._scale = design.ridge.mean, design.ridge.scale
        self._num = design.ridge.weight
        self._num_threads = num_threads
        if self._num * len(self._scale) * targets.num_classes < _SMALL:
            block = merged(design.blocks())
            self._num_threads, self._blocks = 1, lambda: iter([block])
        self._present = np.flatnonzero(design.ridge.target_mean > 0)
        self._column = np.full(targets.num_classes, -1)
        self._column[self._present] = np.arange(len(self._present))
        self._penalty = (2 if len(self._present) == 2 else 1) / (c * self._num)
        weight = start.weight[self._present] * self._scale
        bias = start.bias[self._present] + start.weight[self._present] @ self._mean
        curvature = max(self._sums(weight, bias).curvature / self._num, _LEAST_CURVATURE)
        self._root_curvature = np.sqrt(curvature)
        hessian = np.multiply(design.ridge.gram, curvature / self._num, order="F")
        hessian[np.diag_indices_from(hessian)] += self._penalty
        self._factor = cholesky(hessian, lower=True, overwrite_a=True)
        self.start = np.concatenate([(weight @ self._factor).ravel(), bias * self._root_curvature])

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
            average = self._sums(weight, bias).log_partition / self._num
            full.bias[self._column < 0] = average - np.log(self._num + 1)
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

    def _sums(self, weight: Array, bias: Array) -> _Sums:
        """Read the rows once; sums over blocks are in float64."""
        scaled = weight / self._scale
        on_rows = Linear(scaled.astype(self._dtype), (bias - scaled @ self._mean).astype(self._dtype))
        parts: Iterator[_Sums]
        if self._num_threads == 1:
            parts = (self._sums_of(block, on_rows) for block in self._blocks())
        else:
            parts = in_order(lambda block: self._sums_of(block, on_rows), self._blocks(), self._num_threads)
        total = next(parts)
        for part in parts:
            total = total.plus(part)
        by_weight = total.weight / self._scale - np.outer(total.bias, self._mean / self._scale)
        return total._replace(weight=by_weight)

    def _sums_of(self, block: Block, on_rows: Linear) -> _Sums:
        x, row_weights = block.x.astype(self._dtype, copy=False), self._targets.weights[block.positions]
        truth = (np.arange(len(x)), self._column[self._targets.classes[block.positions]])
        logits = on_rows.logits(x)
        top = logits.max(axis=1, keepdims=True)
        logits -= top
        probabilities = np.exp(logits)
        partition = probabilities.sum(axis=1, keepdims=True)
        log_sum = np.log(partition[:, 0].astype(np.float64))
        loss = float(row_weights @ (log_sum - logits[truth]))
        probabilities /= partition
        spread = (1 - np.einsum("bk,bk->b", probabilities, probabilities)) / probabilities.shape[1]
        probabilities[truth] -= 1
        probabilities *= row_weights.astype(self._dtype)[:, None]
        return _Sums(
            loss=loss,
            weight=(probabilities.T @ x).astype(np.float64),
            bias=probabilities.sum(axis=0, dtype=np.float64),
            curvature=float(row_weights @ spread),
            log_partition=float(row_weights @ (log_sum + top[:, 0])),
        )
