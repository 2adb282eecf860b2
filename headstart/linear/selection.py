"""Model selection: cross-validation on the training rows scores models and chooses the method and its strength."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.base.threads import in_order
from headstart.linear.calibration import fit_temperature, log_losses
from headstart.linear.design import DesignMatrices, is_large
from headstart.linear.layer_rows import RowBlock
from headstart.linear.logistic import fit_logistic
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.passes import SMALL

# The best c of logistic regression divided by the best c of ridge regression: the median over twelve layers of two data
# sets (docs/explanation/decisions.md), where it was 3 to 300.
LOGISTIC_C_FACTOR = 10.0
# Tolerances of logistic regression. With the exact one, probabilities equal scikit-learn's to 1e-4. Large problems
# (`is_large`) stop early: 50,000 x 1,280 rows of 100 classes then take 5 passes instead of 60, and held-out rows are
# predicted as well (accuracy 0.973 with both; log loss 0.082, exact 0.087).
_EXACT_TOL, _EARLY_TOL = 1e-7, 1e-2
# Fits without a fold may end a little earlier, because they only score and calibrate. The larger c, the flatter is the
# loss around its minimum, and the further from it a fit would end. So this tolerance falls with c. With 1,000 rows of
# 20 classes, no log loss then differs from the exact one by more than 0.001, at any c.
_FOLD_TOL = 1e-4


@dataclass(frozen=True)
class CrossValidationScore:
    """A value of c on some layers, with its scores: each training row is scored by the model that did not see its fold.

    Attributes:
        c: Inverse regularisation strength. None: this kind of head has none.
        temperature: Temperature that calibrates the out-of-fold logits.
        log_loss: Mean log loss over the rows after calibration, in nats.
        accuracy: Fraction of the rows whose most probable class is the true one.
    """

    c: float | None
    temperature: float
    log_loss: float
    accuracy: float


@dataclass(frozen=True)
class CrossValidated:
    """A method, with the models that it fitted without each fold and their scores on the folds.

    Attributes:
        kind: Name of the method: `logistic`, `ridge` or `sgd`.
        score: The c and the scores.
        models: (F,) models on embeddings.
        losses: float64 (N,), the log loss of every row, after calibration.
    """

    kind: str
    score: CrossValidationScore
    models: Sequence[LinearModel]
    losses: Float64Array


def one_standard_error_choice(losses: Sequence[NDArray[np.floating[Any]]], num_errors: float = 1.0) -> int:
    """Return the position of the simplest choice that is not clearly worse than the best one.

    "Not clearly worse" means: its mean loss exceeds that of the best choice by at most one standard error of the
    difference. This is the one-standard-error rule (Breiman et al. 1984, section 3.4.3; ESL, section 7.10.1), on
    paired differences between losses of the same fold, or of the same row.

    Args:
        losses: For each choice its losses, (R,) by fold or by row. The simplest choice comes first: the smallest c
            (most regularised), or the fewest columns.
        num_errors: Number of standard errors. With more, simpler choices are taken.
    """
    best = min(range(len(losses)), key=lambda place: losses[place].mean(dtype=np.float64))
    for place, of_choice in enumerate(losses):
        excess = of_choice.astype(np.float64) - losses[best]
        if excess.mean() <= num_errors * excess.std(ddof=1) / np.sqrt(len(excess)):
            return place
    return best


def choose_kind(designs: DesignMatrices, ridge_c: float, max_iter: int, tol: float) -> CrossValidated:
    """Cross-validate logistic and ridge regression, and return the one with the lower log loss.

    Logistic regression looks at the rows near the boundary between classes, ridge regression at all. Where the classes
    are round and compact, as digits are, ridge regression needs fewer images (docs/explanation/decisions.md).

    Args:
        designs: Design matrices of the layers.
        ridge_c: Inverse regularisation strength of ridge regression.
        max_iter: Largest number of iterations of one fit of logistic regression.
        tol: As in `cross_validate_logistic`.
    """
    ridge = cross_validate_ridge(designs, ridge_c)
    logistic = cross_validate_logistic(designs, LOGISTIC_C_FACTOR * ridge_c, ridge.models, max_iter, tol)
    # A model that never saw a class cannot know it, and how wrong it is about its rows says nothing of the method.
    known = _class_is_in_other_folds(designs)
    return min(logistic, ridge, key=lambda validated: validated.losses[known].mean() if known.any() else 0.0)


def cross_validate_ridge(designs: DesignMatrices, c: float) -> CrossValidated:
    """Score ridge regression with a given c.

    Args:
        designs: Design matrices of the layers.
        c: Inverse regularisation strength.
    """
    return score_folds("ridge", designs, c, ridge_fold_models(designs, c))


def cross_validate_logistic(
    designs: DesignMatrices, c: float, starts: Sequence[LinearModel], max_iter: int, tol: float
) -> CrossValidated:
    """Score logistic regression with a given c.

    Args:
        designs: Design matrices of the layers.
        c: Inverse regularisation strength.
        starts: (F,) models on embeddings, from which the fits without each fold start. Each must come from a fit
            without the same fold.
        max_iter: Largest number of iterations of one fit.
        tol: Tolerance of the fit to all rows, as in `fit_logistic`. The fits without a fold end a little earlier.
    """
    tol = max(tol, _FOLD_TOL / max(c, 1.0))

    def fit(fold: int) -> LinearModel:
        design = designs.design(designs.without_fold(fold))
        start = design.to_design_columns(starts[fold])
        done = fit_logistic(design, designs.targets, c, start, max_iter, tol=tol, resources=designs.resources)
        return design.to_embedding_columns(done.model)

    # A large fit uses all threads and much memory, so its folds follow each other.
    is_small = designs.rows.num_rows * designs.rows.dim * designs.targets.num_classes < SMALL
    models = designs.map_folds(fit) if is_small else [fit(fold) for fold in range(designs.num_folds)]
    return score_folds("logistic", designs, c, models)


def refit(designs: DesignMatrices, validated: CrossValidated, max_iter: int, tol: float) -> tuple[LinearModel, bool]:
    """Fit the method that was cross-validated, ridge or logistic regression, to all rows.

    Args:
        designs: Design matrices of the layers.
        validated: The method and its c. Logistic regression starts from the mean of its models.
        max_iter: Largest number of iterations of logistic regression.
        tol: Tolerance of logistic regression, as in `fit_logistic`.

    Returns:
        The model on embeddings, and whether the fit converged.
    """
    c = validated.score.c
    assert c is not None, "both methods have a c"
    if validated.kind == "ridge":
        return designs.ridge(designs.all_rows(), c), True
    design = designs.design(designs.all_rows())
    mean = LinearModel(*(np.mean(parts, axis=0) for parts in zip(*validated.models, strict=True)))
    start = design.to_design_columns(mean)
    done = fit_logistic(design, designs.targets, c, start, max_iter, tol=tol, resources=designs.resources)
    return design.to_embedding_columns(done.model), done.converged


def ridge_fold_models(designs: DesignMatrices, c: float) -> list[LinearModel]:
    """Fit ridge regression without each fold. Return the models on embeddings, (F,)."""
    return designs.map_folds(lambda fold: designs.ridge(designs.without_fold(fold), c))


def default_tolerance(designs: DesignMatrices) -> float:
    """Return the tolerance of logistic regression if the user gives none. Large problems stop early."""
    return _EARLY_TOL if is_large(designs.rows, designs.targets) else _EXACT_TOL


def score_folds(
    kind: str, designs: DesignMatrices, c: float | None, fold_models: Sequence[LinearModel]
) -> CrossValidated:
    """Calibrate and score the out-of-fold logits of all training rows.

    Args:
        kind: Name of the method that fitted the models.
        designs: Design matrices of the layers.
        c: Inverse regularisation strength of the models, which the score records. None: they have none.
        fold_models: (F,) models on embeddings, each fitted without its fold.
    """
    score, losses = score_logits(out_of_fold_logits(designs, fold_models), designs.targets.classes, c)
    return CrossValidated(kind, score, fold_models, losses)


def score_logits(
    logits: NDArray[np.float32], classes: NDArray[np.int64], c: float | None
) -> tuple[CrossValidationScore, Float64Array]:
    """Calibrate and score out-of-fold logits. Return the scores, and the log loss of each row, float64 (N,).

    Args:
        logits: float32 (N, C), out-of-fold logits of all training rows.
        classes: int64 (N,), number of each row's class.
        c: As in `score_folds`.
    """
    temperature = fit_temperature(logits, classes)
    losses = log_losses(logits, classes, temperature)
    accuracy = float((logits.argmax(axis=1) == classes).mean())
    return CrossValidationScore(c, temperature, float(losses.mean()), accuracy), losses


def out_of_fold_logits(designs: DesignMatrices, fold_models: Sequence[LinearModel]) -> NDArray[np.float32]:
    """Return the logits of every training row by the model that did not see its fold, float32 (N, C).

    Args:
        designs: Design matrices of the layers.
        fold_models: (F,) models on embeddings, each fitted without its fold.
    """
    folds = designs.rows.folds
    logits = np.empty((designs.rows.num_rows, designs.targets.num_classes), dtype=np.float32)

    def fill(block: RowBlock) -> None:
        logits[block.positions] = fold_models[folds[block.positions[0]]].logits(block.x)

    for _ in in_order(fill, designs.rows.blocks(), designs.resources.num_threads):
        pass
    return logits


def _class_is_in_other_folds(designs: DesignMatrices) -> NDArray[np.bool_]:
    """Return whether the class of each row has rows in other folds, bool (N,)."""
    folds, classes = designs.rows.folds, designs.targets.classes
    counts = np.zeros((designs.num_folds, designs.targets.num_classes), dtype=np.int64)
    np.add.at(counts, (folds, classes), 1)
    return counts.sum(axis=0)[classes] > counts[folds, classes]
