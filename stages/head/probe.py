"""The linear probe: standardised multinomial logistic regression, its strength chosen by cross-validation."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from stages.core.errors import DataError
from stages.core.progress import Progress
from stages.head.params import HeadParams


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier on raw embeddings, with the standardisation folded in.

    Attributes:
        weight: float32 (C, dim).
        bias: float32 (C,).
        c: Inverse strength of regularisation it was fitted with (scikit-learn's `C`).
        cv_log_loss: Mean over the held-out folds at `c`; None when `c` was given and nothing was cross-validated.
        cv_accuracy: Likewise, a fraction in [0, 1].
        converged: Whether the fit ended before `head.max_iter`.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    c: float
    cv_log_loss: float | None
    cv_accuracy: float | None
    converged: bool


def fit_probe(
    embeddings_ND: NDArray[np.float32], labels: Sequence[str], classes: Sequence[str], params: HeadParams
) -> Probe:
    """Choose the strength by stratified cross-validation, then fit all rows with it.

    The best mean log loss over the held-out folds wins; of equal ones the stronger regularisation. Scale and
    classifier are fitted anew in every fold, so nothing of a held-out row reaches its own score.

    Args:
        embeddings_ND: (N, dim) of the training rows only.
        labels: (N,) class names.
        classes: (C,) order of the logits.
        params: Strengths, folds and seed.

    Raises:
        DataError: A class has no training row, or there are too few for the cross-validation.
    """
    counts = Counter(labels)
    absent = [name for name in classes if not counts[name]]
    if absent:
        raise DataError(f"classes without a training image: {absent}; add some, or remove the classes' folders")
    targets_N = np.array([classes.index(label) for label in labels])
    rows_ND = embeddings_ND.astype(np.float64)
    # One thread: BLAS threads wait for each other in products this small (digits: 4.9 s, with two threads 20 s), and
    # the bits do not depend on the number of cores.
    with threadpool_limits(limits=1, user_api="blas"):
        strength, loss, accuracy = params.c, None, None
        if strength == "auto":
            _check_folds(counts, params)
            losses, accuracies = _cross_validate(rows_ND, targets_N, params)
            best = int(np.argmin(losses))  # the first of equal ones: the smallest C
            strength, loss, accuracy = sorted(params.c_grid)[best], float(losses[best]), float(accuracies[best])
        fit = _fit(rows_ND, targets_N, [strength], params)[0]
    return Probe(fit.weight.astype(np.float32), fit.bias.astype(np.float32), strength, loss, accuracy, fit.converged)


def _check_folds(counts: Counter[str], params: HeadParams) -> None:
    lonely = sorted(name for name, count in counts.items() if count < 2)
    if lonely:
        raise DataError(f"head.c is auto, but classes have one training image only: {lonely}; add some, or set head.c")
    most = max(counts.values())
    if most < params.folds:
        raise DataError(f"head.folds: found {params.folds}, but no class has more than {most} training images")


def _cross_validate(
    embeddings_ND: NDArray[np.float64], targets_N: NDArray[np.int64], params: HeadParams
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean held-out log loss and accuracy of every strength of the grid, ascending."""
    strengths = sorted(params.c_grid)
    folds = StratifiedKFold(params.folds, shuffle=True, random_state=params.seed)
    losses, accuracies = [], []
    with Progress("head", params.folds, "fold") as progress:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")  # then some folds hold none of it out
            pairs = list(folds.split(embeddings_ND, targets_N))
        for fit, held_out in pairs:
            models = _fit(embeddings_ND[fit], targets_N[fit], strengths, params)
            logits = [embeddings_ND[held_out] @ model.weight.T + model.bias for model in models]
            truth = targets_N[held_out]
            losses.append([_log_loss(truth, scores) for scores in logits])
            accuracies.append([float(np.mean(scores.argmax(axis=1) == truth)) for scores in logits])
            progress.advance(1)
    return np.mean(losses, axis=0), np.mean(accuracies, axis=0)


class _Fit(NamedTuple):
    weight: NDArray[np.float64]  # (C, dim), on raw embeddings
    bias: NDArray[np.float64]  # (C,)
    converged: bool


def _fit(
    embeddings_ND: NDArray[np.float64], targets_N: NDArray[np.int64], strengths: Sequence[float], params: HeadParams
) -> list[_Fit]:
    """One fit per strength, from strong regularisation to weak, each warm-starting the next."""
    mean_D, scale_D = _standardisation(embeddings_ND)
    scaled_ND = (embeddings_ND - mean_D) / scale_D
    model = LogisticRegression(max_iter=params.max_iter, warm_start=True)
    fitted = []
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told through `converged`
            model.set_params(C=strength).fit(scaled_ND, targets_N)
        coefficients, intercept = model.coef_, model.intercept_
        if len(coefficients) == 1:  # two classes: scikit-learn keeps the difference of the logits
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
        weight = coefficients / scale_D
        fitted.append(_Fit(weight, intercept - weight @ mean_D, int(model.n_iter_.max()) < params.max_iter))
    return fitted


def _standardisation(embeddings_ND: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and scale of every column: the root of its variance plus the median variance of the columns that vary.

    The plain standard deviation blows up columns that are nearly always zero, as after a ReLU: an image that does
    excite one got logits of 100 and, being wrong, a loss of 90 nats (docs/decisions/README.md has the numbers).
    """
    variance_D = embeddings_ND.var(axis=0)
    varying = variance_D[variance_D > 0]
    floor = np.median(varying) if len(varying) else 1.0
    return embeddings_ND.mean(axis=0), np.sqrt(variance_D + floor)


def _log_loss(targets_N: NDArray[np.int64], logits_NC: NDArray[np.float64]) -> float:
    return float(-log_softmax(logits_NC, axis=1)[np.arange(len(targets_N)), targets_N].mean())
