"""The training recipe of the tutorials: stochastic gradient descent on a linear layer with StepLR, best epoch kept.

It uses NumPy, because importing torch takes longer than training a head. A test compares the steps with torch's.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from headstart.linear.design import column_scale
from headstart.linear.layer_rows import LayerRows, Mask, concatenate
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.targets import Targets
from stages.head.params import SgdParams

_RMSPROP_DECAY, _RMSPROP_EPSILON = 0.99, 1e-8  # alpha and eps of torch.optim.RMSprop, its defaults


class Optimizer:
    """SGD or RMSprop with momentum. It takes the same steps as torch.optim.

    With gradient g, learning rate r and momentum m, a step of SGD is v = m v + g, values = values - r v. RMSprop first
    divides g by the root of the running mean of its squares.

    Attributes:
        values: float64, any shape: current values of the parameters.

    Args:
        params: Kind of optimizer and momentum.
        values: Values to start from.
    """

    def __init__(self, params: SgdParams, values: Float64Array) -> None:
        self.values = values
        self._params = params
        self._velocity, self._square = np.zeros_like(values), np.zeros_like(values)

    def step(self, gradient: Float64Array, learning_rate: float) -> None:
        """Take one step. The gradient, float64, has the shape of `values`."""
        if self._params.optimizer == "rmsprop":
            self._square += (1 - _RMSPROP_DECAY) * (gradient**2 - self._square)
            gradient = gradient / (np.sqrt(self._square) + _RMSPROP_EPSILON)
        self._velocity = self._params.momentum * self._velocity + gradient
        self.values = self.values - learning_rate * self._velocity


def fit_sgd(rows: LayerRows, targets: Targets, held_out: int | None, params: SgdParams, seed: int) -> LinearModel:
    """Train a linear layer on standardised rows by the log loss. Return the best epoch as a model on embeddings.

    The rows of two folds are not trained on: those of the held-out fold and those of the inner validation. The inner
    validation is the fold after the held-out one, or the first fold if none is held out. The best epoch is the first
    one with the highest accuracy on the inner validation.

    Args:
        rows: Training rows of the layers.
        targets: Targets of these rows.
        held_out: Number of the fold that is held out. None: no fold is held out.
        params: Settings of the recipe.
        seed: Seed of the shuffles. In every epoch the rows are shuffled within each chunk of the file.
    """
    inner = 0 if held_out is None else (held_out + 1) % (int(rows.folds.max()) + 1)
    training = (rows.folds != inner) & (rows.folds != (-1 if held_out is None else held_out))
    mean, scale = _standardisation(rows, training)

    def standardised(mask: Mask) -> Iterator[tuple[Float64Array, NDArray[np.intp]]]:
        for chunk in rows.chunks():
            block = concatenate(chunk)
            block = block.select(mask[block.positions])
            yield (block.x - mean) / scale, block.positions

    random = np.random.default_rng(seed)
    optimizer = Optimizer(params, np.zeros((targets.num_classes, rows.dim + 1)))
    best, best_hits = optimizer.values, -1
    for epoch in range(params.epochs):
        learning_rate = params.learning_rate * params.gamma ** (epoch // params.step_epochs)
        for x, positions in standardised(training):
            order = random.permutation(len(x))
            for start in range(0, len(x), params.batch):
                batch = order[start : start + params.batch]
                optimizer.step(_gradient(optimizer.values, x[batch], targets, positions[batch]), learning_rate)
        weight, bias = optimizer.values[:, :-1], optimizer.values[:, -1]
        hits = sum(
            int(((x @ weight.T + bias).argmax(axis=1) == targets.classes[positions]).sum())
            for x, positions in standardised(rows.folds == inner)
        )
        if hits > best_hits:
            best, best_hits = optimizer.values, hits
    weight = best[:, :-1] / scale
    return LinearModel(weight, best[:, -1] - weight @ mean)


def _gradient(values: Float64Array, x: Float64Array, targets: Targets, positions: NDArray[np.intp]) -> Float64Array:
    """Return the gradient of the weighted mean log loss of a batch, (C, dim + 1); the last column is for biases."""
    weights = targets.sample_weights[positions]
    residual = softmax(x @ values[:, :-1].T + values[:, -1], axis=1) - targets.one_hot(positions)
    residual *= (weights / weights.sum())[:, None]
    return np.concatenate([residual.T @ x, residual.sum(axis=0)[:, None]], axis=1)


def _standardisation(rows: LayerRows, mask: Mask) -> tuple[Float64Array, Float64Array]:
    """Return mean (dim,) and scale (dim,) of the columns of the rows in the mask."""
    total, squares = np.zeros(rows.dim), np.zeros(rows.dim)
    for block in rows.blocks(mask):
        x = block.x - rows.shift
        total, squares = total + x.sum(axis=0), squares + (x**2).sum(axis=0)
    mean = total / mask.sum()
    return mean + rows.shift, column_scale(np.maximum(squares / mask.sum() - mean**2, 0.0), rows.columns)
