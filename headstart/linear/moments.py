"""Moments: all that least squares need to know of any number of rows, in memory that depends on the columns alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from headstart.base.errors import TrainingError

Array = NDArray[np.float64]


class Linear(NamedTuple):
    """A linear map from embeddings to logits.

    Attributes:
        weight: float64 (C, dim).
        bias: float64 (C,).
    """

    weight: Array
    bias: Array

    def logits(self, x_BD: NDArray[np.floating]) -> Array:
        """Return (B, C)."""
        return x_BD @ self.weight.T.astype(x_BD.dtype) + self.bias


@dataclass(frozen=True)
class Moments:
    """Weighted sums over rows x (dim,) and targets y (C,): they add up.

    Attributes:
        weight: Sum of the rows' weights.
        x: (dim,)
        y: (C,)
        xx: (dim, dim)
        xy: (dim, C)
        yy: Sum of squared targets.
    """

    weight: float
    x: Array
    y: Array
    xx: Array
    xy: Array
    yy: float

    @classmethod
    def total(cls, parts: Sequence["Moments"]) -> "Moments":
        """Return the moments of the rows of all parts."""
        xx = parts[0].xx.copy()
        for part in parts[1:]:
            xx += part.xx  # in place: it is the large one
        return cls(
            weight=sum(part.weight for part in parts),
            x=np.sum([part.x for part in parts], axis=0),
            y=np.sum([part.y for part in parts], axis=0),
            xx=xx,
            xy=np.sum([part.xy for part in parts], axis=0),
            yy=sum(part.yy for part in parts),
        )

    def variance(self) -> Array:
        """Return the variance of each column, (dim,)."""
        square = self.xx.diagonal() / self.weight
        variance = square - (self.x / self.weight) ** 2
        return np.where(variance > 1e-12 * square, variance, 0.0)  # less is rounding: the column is constant

    def squared_error(self, fit: Linear) -> float:
        """Return the weighted sum over the rows of |y - fit(x)|^2."""
        explained = np.einsum("dc,cd->", self.xy, fit.weight) + self.y @ fit.bias
        fitted = np.einsum("cd,cd->", fit.weight @ self.xx, fit.weight)
        fitted += 2 * fit.bias @ (fit.weight @ self.x) + self.weight * (fit.bias @ fit.bias)
        return float(self.yy - 2 * explained + fitted)


class Products(NamedTuple):
    """What some rows add to moments, as in `Moments`; products in the precision of the rows."""

    weight: float
    x: NDArray[np.floating[Any]]
    y: Array
    xx: NDArray[np.floating[Any]]
    xy: NDArray[np.floating[Any]]
    yy: float


def products_of(x_BD: NDArray[np.floating[Any]], y_BC: Array, weight_B: Array) -> Products:
    """Return the weighted sums over some rows, multiplied in the precision of `x`."""
    x, y = x_BD, np.concatenate([y_BC, np.ones((len(y_BC), 1))], axis=1)
    if (weight_B != 1).any():
        root_B = np.sqrt(weight_B)[:, None]
        x, y = x * root_B.astype(x.dtype), y * root_B
    xy = x.T @ y.astype(x.dtype)
    return Products(
        float(weight_B.sum()), xy[:, -1], weight_B @ y_BC, x.T @ x, xy[:, :-1], float((y[:, :-1] ** 2).sum())
    )


class MomentSums:
    """Moments that grow in place.

    Args:
        dim: Columns.
        num_targets: C.
    """

    def __init__(self, dim: int, num_targets: int) -> None:
        self._weight, self._yy = 0.0, 0.0
        self._x, self._y = np.zeros(dim), np.zeros(num_targets)
        self._xx, self._xy = np.zeros((dim, dim)), np.zeros((dim, num_targets))

    def add(self, products: Products) -> None:
        """Add those of some rows, in float64."""
        self._xx += products.xx
        self._xy += products.xy
        self._x += products.x
        self._y += products.y
        self._weight += products.weight
        self._yy += products.yy

    def moments(self) -> Moments:
        """Return the sums; nothing can be added after."""
        return Moments(self._weight, self._x, self._y, self._xx, self._xy, self._yy)


def floored_scale(variance: Array) -> Array:
    """Return by what columns are divided: the root of the variance plus the median variance of those that vary.

    The plain standard deviation blows up columns that are nearly always zero, as after a ReLU: an image that does
    excite one got logits of 100 and, being wrong, a loss of 90 nats (docs/explanation/decisions.md has the numbers).
    """
    varying = variance[variance > 0]
    return np.sqrt(variance + (np.median(varying) if len(varying) else 1.0))


@dataclass(frozen=True)
class Ridge:
    """Least squares on standardised columns with a free intercept, for any strength.

    The sum of squared errors plus the squared weights divided by `c` is least (Hoerl & Kennard 1970; scikit-learn's
    Ridge with alpha 1 / c).

    Attributes:
        mean: (dim,) of the columns.
        scale: (dim,) they are divided by.
        gram: (dim, dim) of the standardised columns.
        cross: (dim, C) of these and the centred targets.
        target_mean: (C,)
        weight: Sum of the rows' weights.
    """

    mean: Array
    scale: Array
    gram: Array
    cross: Array
    target_mean: Array
    weight: float

    @classmethod
    def of(cls, moments: Moments, scale: Array) -> "Ridge":
        """Centre the columns of some rows and divide them by `scale`."""
        mean, target_mean = moments.x / moments.weight, moments.y / moments.weight
        gram = np.outer(moments.x, -mean)
        gram += moments.xx
        gram /= scale
        gram /= scale[:, None]
        cross = (moments.xy - np.outer(moments.x, target_mean)) / scale[:, None]
        return cls(mean, scale, gram, cross, target_mean, moments.weight)

    def fit(self, c: float) -> Linear:
        """Return the solution for a strength, on the columns as they were before standardising."""
        penalised = self.gram.copy().T  # symmetric: LAPACK's order at no cost
        penalised[np.diag_indices_from(penalised)] += 1 / c
        try:
            factor = cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError as error:
            raise TrainingError(
                f"ridge regression of strength c {c:g} has no solution in this precision: columns of the embeddings "
                "are too nearly the same, or too far from zero, for so weak a regularisation. Expected a smaller c "
                "(head.c, head.c_grid, finetune.probe_c_grid)"
            ) from error
        weight = (cho_solve(factor, self.cross, check_finite=False) / self.scale[:, None]).T
        return Linear(weight, self.target_mean - weight @ self.mean)
