"""Selection: which tap and which strength, by cross-validation on the training rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stages.core.parallel import in_order
from stages.core.progress import Progress
from stages.head.calibration import calibrate, log_losses
from stages.head.designs import Designs
from stages.head.logistic import fit_logistic
from stages.head.moments import Array, Linear
from stages.head.rows import Rows


@dataclass(frozen=True)
class Scored:
    """A strength on a tap, judged by rows that were held out.

    Attributes:
        c: The strength; None for a kind of head that has none.
        temperature: Calibrates the logits.
        log_loss: Mean over the rows, calibrated.
        accuracy: Fraction of the rows.
        by_fold: (F,) mean calibrated log loss of each fold's rows.
    """

    c: float | None
    temperature: float
    log_loss: float
    accuracy: float
    by_fold: Array


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


def ridge_errors(designs: Designs, strengths: Sequence[float], num_threads: int) -> tuple[Array, list[list[Linear]]]:
    """Fit all strengths without each fold, and return its exact mean squared errors (F, S), from moments alone.

    Args:
        designs: Of a tap.
        strengths: (S,) ascending.
        num_threads: To use.

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

    errors, fits = zip(*in_order(fit, range(designs.num_folds), num_threads), strict=True)
    return np.array(errors), list(fits)


def score_ridge(designs: Designs, strengths: Sequence[float], num_threads: int) -> tuple[Scored, list[Linear]]:
    """Choose the strength of ridge regression for a tap, and judge it by calibrated log loss.

    Squared errors compare strengths, not taps: wide taps come nearer to targets of 0 and 1 without being right more
    often (docs/decisions/README.md).

    Returns:
        The strength and its scores, and the fits on embeddings without each fold.
    """
    errors, fits = ridge_errors(designs, strengths, num_threads)
    chosen = strongest_tie(errors)
    of_folds = [by_strength[chosen] for by_strength in fits]
    return judge(designs, strengths[chosen], of_folds), of_folds


def score_logistic(
    designs: Designs, strengths: Sequence[float], ridge_c: float, max_iter: int, num_threads: int
) -> tuple[Scored, list[Linear]]:
    """Choose the strength of logistic regression for a tap, by calibrated log loss.

    From ridge regression's strength on they are tried from strong to weak until the loss rises, and if it rises at
    once, from there to strong ones: where ridge regression is best, logistic regression wants less, because its
    curvature is at most a quarter of least squares'.

    Args:
        designs: Of the tap.
        strengths: (S,) ascending.
        ridge_c: Strength of the ridge regression that the first fit starts from; each other starts from its neighbour.
        max_iter: Of one fit.
        num_threads: To use.

    Returns:
        As `score_ridge`.
    """
    tried: dict[int, tuple[Scored, list[Linear]]] = {}

    def fit(fold: int, c: float, starts: Sequence[Linear]) -> Linear:
        design = designs.without(fold)
        start = design.from_embeddings(starts[fold]) if starts else design.ridge.fit(ridge_c)
        solution = fit_logistic(design, designs.targets, c, start, max_iter, exact=False).fit
        return design.on_embeddings(solution)

    def rises(number: int, neighbour: int | None) -> bool:
        starts = [] if neighbour is None else tried[neighbour][1]
        c = strengths[number]
        fits = list(in_order(partial(fit, c=c, starts=starts), range(designs.num_folds), num_threads))
        tried[number] = judge(designs, c, fits), fits
        progress.advance(1)
        return neighbour is not None and tried[number][0].log_loss > tried[neighbour][0].log_loss

    first = min(int(np.searchsorted(strengths, ridge_c)), len(strengths) - 1)
    with Progress("head", len(strengths), "strength") as progress:
        rises(first, None)
        for number in range(first + 1, len(strengths)):
            if rises(number, number - 1):
                break
        if max(tried) <= first + 1:
            for number in reversed(range(first)):
                if rises(number, number + 1):
                    break
    in_turn = [tried[number] for number in sorted(tried)]
    return in_turn[strongest_tie(np.stack([scored.by_fold for scored, _ in in_turn], axis=1))]


def judge(designs: Designs, c: float | None, fits: Sequence[Linear]) -> Scored:
    """Judge a strength by each fold's held out rows.

    Args:
        designs: Of a tap.
        c: The strength.
        fits: (F,) on embeddings, each without its fold.
    """
    classes, folds = designs.targets.classes, designs.rows.folds
    logits = held_out_logits(designs.rows, fits, designs.targets.num_classes)
    temperature = calibrate(logits, classes)
    losses = log_losses(logits, classes, temperature)
    return Scored(
        c=c,
        temperature=temperature,
        log_loss=float(losses.mean()),
        accuracy=float((logits.argmax(axis=1) == classes).mean()),
        by_fold=np.array([losses[folds == fold].mean() for fold in range(designs.num_folds)]),
    )


def held_out_logits(rows: Rows, fits: Sequence[Linear], num_classes: int) -> NDArray[np.float32]:
    """Return (N, C), each row by the fit of its own fold, which did not see it."""
    logits = np.empty((rows.num, num_classes), dtype=np.float32)
    for block in rows.blocks():
        for fold, fit in enumerate(fits):
            part = block.of(rows.folds[block.positions] == fold)
            logits[part.positions] = fit.logits(part.x.astype(np.float64))
    return logits
