"""Multinomial logistic regression: the solution of scikit-learn's LogisticRegression, computed from blocks of rows.

L-BFGS minimises the loss in preconditioned unknowns. If all K classes are equally probable, each diagonal block of the
Hessian is the Gram matrix of the rows times p (1 - p) / N, where p = 1 / K (the bound of Boehning 1992 has the same
form). Ridge regression has this Gram matrix already. Multiplying the unknowns by its Cholesky factor makes the
curvature about 1 in all directions, so that L-BFGS needs tens of passes through the rows instead of hundreds. Near the
solution most rows are classified with certainty, and few rows make the curvature. So a long fit computes its
preconditioner anew from the probabilities that it has reached.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from headstart.linear.calibration import log_losses
from headstart.linear.design import DesignMatrix, Resources
from headstart.linear.layer_rows import RowBlock
from headstart.linear.loss import LossSums
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.passes import CpuPasses, Passes
from headstart.linear.ridge import NormalEquations
from headstart.linear.targets import Targets

_SMALLEST_GRADIENT_IN_FLOAT32 = 1e-4  # rounding in float32 hides smaller gradients
_LOG_FACTOR_BOUNDS = (-2.0, 7.0)  # natural logarithm of the factor that scales the start
# The preconditioner is computed anew after so many iterations. On digits and five layers, 113 iterations then reach
# the tolerance instead of 320.
_FIRST_ITERATIONS = 30


class LogisticFit(NamedTuple):
    """The result of a fit.

    Attributes:
        model: The model on the columns of the design matrix.
        converged: Whether the tolerance was reached within the allowed number of iterations.
    """

    model: LinearModel
    converged: bool


def fit_logistic(
    design: DesignMatrix,
    targets: Targets,
    c: float,
    start: LinearModel,
    max_iter: int,
    *,
    tol: float,
    resources: Resources,
) -> LogisticFit:
    """Minimise the weighted log loss of the rows with an L2 penalty (ESL, section 4.4).

    With standardised rows s, sample weights w and classes y, the weights V and intercepts b minimise

        sum over the rows of w (logsumexp(V s + b) - (V s + b)[y])  +  |V|^2 / (2 c)

    as in scikit-learn's LogisticRegression with C = c. For two classes, the penalty is doubled: scikit-learn has one
    weight vector v there, our two vectors are v / 2 and -v / 2, and their squares add up to half of |v|^2.

    A class without rows gets weights of zero, and a bias that makes its probability at most 1 / (N + 1) for every row.

    Args:
        design: Design matrix of the rows to fit.
        targets: Targets of all N training rows.
        c: Inverse regularisation strength, positive.
        start: Model on the columns of the design matrix to start from. The solution does not depend on it except by the
            tolerance, but a near start saves iterations. Its scale does not matter: the fit first scales it best.
        max_iter: Largest number of iterations.
        tol: The fit ends when no component of the gradient of the mean loss, by the preconditioned unknowns, is larger.
        resources: Threads; the rows of the design matrix are on the device already. The result does not depend on the
            number of threads.
    """
    exact = tol < _SMALLEST_GRADIENT_IN_FLOAT32

    def fit(passes: Callable[[NDArray[np.int64]], Passes]) -> LogisticFit:
        return _minimise(_Objective(design, targets, c, start, passes), max_iter, tol)

    done = design.on_gpu.compute(lambda rows: fit(partial(rows.passes, design.mask, exact=exact)))
    if done is None:
        done = fit(partial(CpuPasses, design, targets, exact=exact, num_threads=resources.num_threads))
    return done


def _minimise(objective: "_Objective", max_iter: int, tol: float) -> LogisticFit:
    if objective.is_trivial:
        return LogisticFit(objective.model(objective.start * 0), converged=True)
    unknowns, num_left = objective.start, max_iter
    while num_left:
        num = min(num_left, _FIRST_ITERATIONS) if num_left == max_iter else num_left
        done = minimize(
            objective.loss_and_gradient,
            unknowns,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": num, "maxfun": 2 * num, "gtol": tol, "ftol": 0.0, "maxcor": 10},
        )
        unknowns, num_left = done.x, num_left - num
        if done.nit < num:
            return LogisticFit(objective.model(unknowns), converged=True)
        if num_left:
            unknowns = objective.precondition_anew(unknowns)
    return LogisticFit(objective.model(unknowns), converged=False)


class _Objective:
    """The mean loss with its penalty, as a function of the preconditioned unknowns U (K, r) and a (K,).

    The expected Hessian is L L^T (Cholesky). The weights on standardised columns are V = U L^-1, and the intercepts are
    b = a / sqrt(p (1 - p)). K counts only the classes that have rows.
    """

    def __init__(
        self,
        design: DesignMatrix,
        targets: Targets,
        c: float,
        start: LinearModel,
        passes: Callable[[NDArray[np.int64]], Passes],
    ) -> None:
        self._targets = targets
        equations = design.normal_equations
        self._mean, self._scale = equations.mean, equations.scale
        self._sum_w = equations.sum_w
        self._present = np.flatnonzero(equations.target_mean > 0)
        self._column = np.full(targets.num_classes, -1)
        self._column[self._present] = np.arange(len(self._present))
        self._passes = passes(self._column)
        self._penalty = (2 if len(self._present) == 2 else 1) / (c * self._sum_w)
        start = self._best_scaled(start, next(design.blocks()))
        weight = start.weight[self._present] * self._scale
        bias = start.bias[self._present] + start.weight[self._present] @ self._mean
        curvature = max(len(self._present) - 1, 1) / len(self._present) ** 2  # p (1 - p), where p = 1 / K
        self._precondition(np.multiply(equations.gram, curvature / self._sum_w, order="F"), curvature)
        self.start = self._unknowns(weight, bias)

    def precondition_anew(self, unknowns: Float64Array) -> Float64Array:
        """Compute the preconditioner from the probabilities at some unknowns. Return the same point in new unknowns."""
        weight, bias = self._weight_and_bias(unknowns)
        unscaled = weight / self._scale
        statistics = self._passes.curvature(LinearModel(unscaled, bias - unscaled @ self._mean))
        gram = NormalEquations.from_statistics(statistics, self._scale).gram
        self._precondition(np.multiply(gram, 1 / self._sum_w, order="F"), statistics.sum_w / self._sum_w)
        return self._unknowns(weight, bias)

    def _precondition(self, gram: Float64Array, curvature: float) -> None:
        """Set the preconditioner from the Hessian of the mean loss, (r, r), without the penalty, and that of a bias."""
        gram[np.diag_indices_from(gram)] += self._penalty
        self._factor = self._passes.factor(gram)
        self._root_curvature = np.sqrt(curvature)

    def _unknowns(self, weight: Float64Array, bias: Float64Array) -> Float64Array:
        """Return the unknowns of weights (K, r) and biases (K,) on standardised columns."""
        return np.concatenate([self._factor.product(weight).ravel(), bias * self._root_curvature])

    def _best_scaled(self, start: LinearModel, block: RowBlock) -> LinearModel:
        """Multiply the start by the factor with the lowest loss on a block.

        The logits of ridge regression lie between 0 and 1, which is far too small for logistic regression.
        """
        logits, classes = start.logits(block.x), self._targets.classes[block.positions]
        penalty = self._penalty / 2 * float(((start.weight * self._scale) ** 2).sum())

        def loss(log_factor: float) -> float:
            factor = float(np.exp(log_factor))
            return float(log_losses(logits, classes, 1 / factor).mean()) + penalty * factor**2

        factor = np.exp(minimize_scalar(loss, bounds=_LOG_FACTOR_BOUNDS, method="bounded", options={"xatol": 0.1}).x)
        return LinearModel(start.weight * factor, start.bias * factor)

    @property
    def is_trivial(self) -> bool:
        """Whether only one class has rows."""
        return len(self._present) == 1

    def model(self, unknowns: Float64Array) -> LinearModel:
        """Return the model of all classes on the columns of the design matrix."""
        weight, bias = self._weight_and_bias(unknowns)
        num_classes = self._targets.num_classes
        full = LinearModel(np.zeros((num_classes, len(self._scale))), np.zeros(num_classes))
        full.weight[self._present] = weight / self._scale
        full.bias[self._present] = bias - full.weight[self._present] @ self._mean
        if len(self._present) < num_classes:
            lowest = self._loss_sums(weight, bias).min_logsumexp
            full.bias[self._column < 0] = lowest - np.log(len(self._targets.classes) + 1)
        return full

    def loss_and_gradient(self, unknowns: Float64Array) -> tuple[float, Float64Array]:
        """Return the mean loss with the penalty, and its gradient by the unknowns."""
        weight, bias = self._weight_and_bias(unknowns)
        sums = self._loss_sums(weight, bias)
        loss = sums.loss / self._sum_w + self._penalty / 2 * float((weight**2).sum())
        gradient = sums.weight_gradient / self._sum_w + self._penalty * weight
        by_unknowns = self._factor.quotient_by_transposed(gradient)
        return loss, np.concatenate([by_unknowns.ravel(), sums.bias_gradient / (self._sum_w * self._root_curvature)])

    def _weight_and_bias(self, unknowns: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return weights (K, r) and biases (K,) on standardised columns."""
        num_weights = len(self._present) * len(self._scale)
        preconditioned = unknowns[:num_weights].reshape(len(self._present), -1)
        return self._factor.quotient(preconditioned), unknowns[num_weights:] / self._root_curvature

    def _loss_sums(self, weight: Float64Array, bias: Float64Array) -> LossSums:
        """Go through the rows once. Return the loss and its gradient by weights and biases on standardised columns."""
        unscaled = weight / self._scale
        total = self._passes.loss_sums(LinearModel(unscaled, bias - unscaled @ self._mean))
        gradient = total.weight_gradient / self._scale - np.outer(total.bias_gradient, self._mean / self._scale)
        return total._replace(weight_gradient=gradient)
