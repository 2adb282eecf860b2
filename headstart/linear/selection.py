"""Selection: which layer and which strength, by cross-validation on the training rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.base.threads import in_order
from headstart.linear.calibration import calibrate, log_losses
from headstart.linear.designs import Designs, are_many
from headstart.linear.logistic import fit_logistic
from headstart.linear.moments import Array, Linear
from headstart.linear.rows import Block

# Logistic regression's best strength in units of ridge regression's: the median of twelve layers of two data sets
# (docs/explanation/decisions.md), on which it was 3 to 300.
LOGISTIC_FACTOR = 10.0
# Tolerances of logistic regression. Exact: probabilities are scikit-learn's to 1e-4. Where rows are many (`are_many`)
# it stops early: on 50,000 x 1,280 x 100 that takes 5 passes in place of 60, and held-out rows liked it no less
# (accuracy 0.973 both; log loss 0.082, exact 0.087).
_EXACT, _EARLY = 1e-7, 1e-2


@dataclass(frozen=True)
class Scored:
    """A strength on a layer, judged by rows that were held out.

    Attributes:
        c: The strength; None for a kind of head that has none.
        temperature: Calibrates the logits.
        log_loss: Mean over the rows, calibrated.
        accuracy: Fraction of the rows.
    """

    c: float | None
    temperature: float
    log_loss: float
    accuracy: float


def strongest_tie(scores_FS: Array) -> int:
    """Return the number of the strength to take: the strongest that is not clearly worse than the best.

    Not clearly worse: its mean over the folds exceeds the best one's by at most one standard error of the difference
    of the two over the folds (the one-standard-error rule of Breiman et al. 1984, on paired differences).

    Args:
        scores_FS: Losses by fold and strength, strengths from strong to weak.
    """
    best = int(scores_FS.mean(axis=0).argmin())
    excess_FS = scores_FS - scores_FS[:, [best]]
    error_S = excess_FS.std(axis=0, ddof=1) / np.sqrt(len(excess_FS))
    return int(np.argmax(excess_FS.mean(axis=0) <= error_S))


def ridge_errors(designs: Designs, strengths: Sequence[float]) -> tuple[Array, list[list[Linear]]]:
    """Fit all strengths without each fold, and return its exact mean squared errors (F, S), from moments alone.

    Args:
        designs: Designs of a layer.
        strengths: (S,) ascending.

    Returns:
        The errors, and the fits on embeddings by fold and strength.
    """

    def fit(fold: int) -> tuple[list[float], list[Linear]]:
        design = designs.without(fold)
        assert design.held is not None, "a fold is held out"
        errors, fits = [], []
        for c in strengths:
            solution = design.ridge.fit(c)
            errors.append(design.held.squared_error(solution) / design.held.weight)
            fits.append(design.on_embeddings(solution))
        return errors, fits

    errors, fits = zip(*designs.each_fold(fit), strict=True)
    return np.array(errors), list(fits)


def score_ridge(designs: Designs, strengths: Sequence[float]) -> tuple[Scored, list[Linear]]:
    """Choose the strength of ridge regression for a layer, and judge it by calibrated log loss.

    Squared errors compare strengths, not layers: wide layers come nearer to targets of 0 and 1 without being right more
    often (docs/explanation/decisions.md).

    Returns:
        The strength and its scores, and the fits on embeddings without each fold.
    """
    errors, fits = ridge_errors(designs, strengths)
    chosen = strongest_tie(errors)
    of_folds = [by_strength[chosen] for by_strength in fits]
    return judge(designs, strengths[chosen], of_folds), of_folds


def score_logistic(
    designs: Designs, c: float, starts: Sequence[Linear], max_iter: int, tol: float
) -> tuple[Scored, list[Linear]]:
    """Judge logistic regression of a strength on a layer.

    Args:
        designs: Designs of the layer.
        c: The strength.
        starts: (F,) where the fit without each fold starts; it must not know the fold.
        max_iter: Largest number of iterations of one fit.
        tol: Tolerance of one fit.

    Returns:
        As `score_ridge`.
    """

    def fit(fold: int) -> Linear:
        design = designs.without(fold)
        start = design.from_embeddings(starts[fold])
        done = fit_logistic(design, designs.targets, c, start, max_iter, tol=tol, machine=designs.machine)
        return design.on_embeddings(done.fit)

    fits = [fit(fold) for fold in range(designs.num_folds)]  # one by one: each has all threads, and memory
    return judge(designs, c, fits), fits


def refit_logistic(
    designs: Designs, c: float, of_folds: Sequence[Linear], max_iter: int, tol: float
) -> tuple[Linear, bool]:
    """Fit all rows by logistic regression of a strength; return the weights on embeddings, and whether it converged.

    Args:
        designs: Designs of the layer.
        c: The strength.
        of_folds: (F,) fits without each fold, near which it starts.
        max_iter: Most iterations.
        tol: Where it ends.
    """
    design = designs.without(None)
    start = design.from_embeddings(Linear(*(np.mean(parts, axis=0) for parts in zip(*of_folds, strict=True))))
    done = fit_logistic(design, designs.targets, c, start, max_iter, tol=tol, machine=designs.machine)
    return design.on_embeddings(done.fit), done.converged


def default_tolerance(designs: Designs) -> float:
    """Return where logistic regression ends if nobody says: exactly, or early where rows are many."""
    return _EARLY if are_many(designs.rows, designs.targets) else _EXACT


def judge(designs: Designs, c: float | None, fits: Sequence[Linear]) -> Scored:
    """Judge a strength by each fold's held out rows.

    Args:
        designs: Designs of a layer.
        c: The strength.
        fits: (F,) on embeddings, each without its fold.
    """
    classes = designs.targets.classes
    logits = held_out_logits(designs, fits)
    temperature = calibrate(logits, classes)
    return Scored(
        c=c,
        temperature=temperature,
        log_loss=float(log_losses(logits, classes, temperature).mean()),
        accuracy=float((logits.argmax(axis=1) == classes).mean()),
    )


def held_out_logits(designs: Designs, fits: Sequence[Linear]) -> NDArray[np.float32]:
    """Return (N, C), each row by the fit of its own fold, which did not see it."""
    folds = designs.rows.folds
    logits = np.empty((designs.rows.num, designs.targets.num_classes), dtype=np.float32)

    def fill(block: Block) -> None:
        logits[block.positions] = fits[folds[block.positions[0]]].logits(block.x)

    for _ in in_order(fill, designs.rows.blocks(), designs.machine.num_threads):
        pass
    return logits
