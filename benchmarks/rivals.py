"""What others would do with the same embeddings: scikit-learn's search, DINOv2's sweep and nearest neighbours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.references import unit_length

NUM_NEIGHBOURS, TEMPERATURE = 20, 0.07  # DINO's
_LEAST_SHARE = 1e-3  # of a class that no neighbour has; its log loss would be infinite


def standardise(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Standardise the rows (N, dim) in place, as the head does, and return mean and scale (dim,)."""
    mean, variance = x.mean(axis=0), x.var(axis=0)
    scale = np.sqrt(variance + np.median(variance[variance > 0]))
    x -= mean
    x /= scale
    return mean, scale


def fit_logistic_cv(
    x: NDArray[np.float32], labels: NDArray[np.str_], folds: NDArray[np.int64], grid: Sequence[float], num_jobs: int = 1
) -> Any:  # noqa: ANN401
    """Fit LogisticRegressionCV with its defaults, but with a grid and folds that are given.

    Args:
        x: (N, dim) standardised embeddings.
        labels: (N,) name of every row's class.
        folds: (N,) number of every row's fold.
        grid: Values of C.
        num_jobs: Number of processes.

    Returns:
        The fitted model of scikit-learn.
    """
    from sklearn.linear_model import LogisticRegressionCV  # here, because it costs memory that the head does not need

    pairs = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds)]
    model = LogisticRegressionCV(
        Cs=grid, cv=pairs, scoring="accuracy", n_jobs=num_jobs, l1_ratios=(0,), use_legacy_attributes=False
    )
    return model.fit(x, labels)


def fit_dinov2_sweep(x: NDArray[np.float32], labels: NDArray[np.str_]) -> Any:  # noqa: ANN401
    """Follow DINOv2's logistic regression: the best of 45 values of C on a tenth held out, then all rows.

    facebookresearch/dinov2, dinov2/eval/log_regression.py: C from 10^-6 to 10^5; 100 iterations at most, not 1000.

    Args:
        x: (N, dim) standardised embeddings, in an order that says nothing about the classes.
        labels: (N,) name of every row's class.

    Returns:
        The fitted model of scikit-learn.
    """
    from sklearn.linear_model import LogisticRegression

    held = np.arange(len(x)) % 10 == 0
    best, best_accuracy = 0.0, -1.0
    for strength in np.logspace(-6, 5, 45):
        model = LogisticRegression(C=strength, max_iter=100).fit(x[~held], labels[~held])
        accuracy = model.score(x[held], labels[held])
        if accuracy > best_accuracy:
            best, best_accuracy = strength, accuracy
    return LogisticRegression(C=best, max_iter=100).fit(x, labels)


def vote_of_neighbours(
    x: NDArray[np.float32], targets: NDArray[np.int64], test: NDArray[np.float32], num_classes: int
) -> NDArray[np.float64]:
    """Classify rows by DINO's weighted votes of the 20 nearest training rows (facebookresearch/dino, eval_knn.py).

    Args:
        x: (N, dim) embeddings of the training rows.
        targets: (N,) number of every training row's class.
        test: (M, dim) embeddings of the rows to classify.
        num_classes: Number of classes, C.

    Returns:
        Each class's share of the votes, float64 (M, C), at least 0.001.
    """
    similarity = unit_length(test, [test.shape[1]]) @ unit_length(x, [x.shape[1]]).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NUM_NEIGHBOURS]
    # Weights relative to the nearest neighbour's: exp(1 / 0.07) is large, and only their ratio counts.
    found = np.take_along_axis(similarity, nearest, axis=1).astype(np.float64)
    weights = np.exp((found - found[:, :1]) / TEMPERATURE)
    votes = np.zeros((len(test), num_classes))
    np.add.at(votes, (np.arange(len(test))[:, None], targets[nearest]), weights)
    return np.maximum(votes / votes.sum(axis=1, keepdims=True), _LEAST_SHARE)
