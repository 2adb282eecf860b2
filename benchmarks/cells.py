"""Results of `benchmarks.data`: scores of each run, pooled over the seeds, and the tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks.contestants import OURS
from headstart.tables.intervals import CONFIDENCE, wilson_interval
from headstart.tables.outcomes import Outcomes
from headstart.tables.paired import mcnemar_p, paired_interval
from headstart.tables.predictions import Predictions
from stages.evaluate.metrics import METRICS

SCORES = ("accuracy", "log_loss", "calibration_error")


@dataclass(frozen=True)
class Run:
    """One contestant on one draw.

    Attributes:
        data_set: Name of the data set.
        size: Training images of each class, or `all`.
        seed: Seed of the draw.
        contestant: Name of the contestant.
        num_training: Number of training images.
        num_test: Number of test images.
        num_right: Number of test images that are classified rightly.
        log_loss: Mean log loss, in nats.
        calibration_error: Expected calibration error (ECE) with 15 bins of equal width.
        seconds: Seconds to choose and fit; for the rivals also to classify the test images.
        num_only_ours: Number of test images that only the head got right; 0 for the head.
        num_only_theirs: Number of test images that only this contestant got right; 0 for the head.
    """

    data_set: str
    size: str
    seed: int
    contestant: str
    num_training: int
    num_test: int
    num_right: int
    log_loss: float
    calibration_error: float
    seconds: float
    num_only_ours: int
    num_only_theirs: int


@dataclass(frozen=True)
class Cell:
    """A contestant on a data set at a size, pooled over the seeds.

    Attributes:
        num_runs: Number of seeds.
        num_won: Number of seeds in which the head got more images right than the contestant.
        accuracy: Fraction of all predictions that are right, with Wilson's 95 % interval.
        log_loss: Mean over the seeds.
        calibration_error: Mean over the seeds.
        seconds: Mean over the seeds.
        difference: Accuracy of the head minus the contestant's, with its 95 % interval: Student's t over the draws; of
            one draw that of paired predictions.
        is_significant: Whether the interval excludes 0; of one draw whether the exact McNemar test has p < 0.05.
    """

    num_runs: int
    num_won: int
    accuracy: tuple[float, float, float]
    log_loss: float
    calibration_error: float
    seconds: float
    difference: tuple[float, float, float]
    is_significant: bool

    @property
    def verdict(self) -> str:
        """`better` or `worse` if the head differs significantly from the contestant, else the empty string."""
        if not self.is_significant:
            return ""
        return "better" if self.difference[0] > 0 else "worse"


def scores_of(predictions: Predictions) -> dict[str, float]:
    """Return accuracy, log loss and expected calibration error, as the stage `evaluate` computes them."""
    outcomes = Outcomes.of(predictions)
    counts = np.ones(outcomes.num_images, dtype=np.int64)
    return {metric.name: metric.function(outcomes, counts) for metric in METRICS if metric.name in SCORES}


def is_right(predictions: Predictions) -> NDArray[np.bool_]:
    """Return whether each test image is classified rightly, (N,), in the order of the digests."""
    order = np.argsort(predictions.digests)
    return (np.array(predictions.predicted) == np.array(predictions.labels))[order]


def pool(runs: Sequence[Run]) -> Cell:
    """Pool the runs of one contestant on one data set at one size.

    Another draw of training images would give another difference, and an image that several draws test is not new each
    time. So a test of all predictions together would be far too sure: with five images per class it found a
    difference between two equal methods in 31 of 100 cases. Differences are compared over the draws.
    """
    num_test, right = sum(run.num_test for run in runs), sum(run.num_right for run in runs)
    difference, is_significant = _difference_over_draws(runs)
    log_loss, error, seconds = (
        float(np.mean([getattr(run, name) for run in runs])) for name in ("log_loss", "calibration_error", "seconds")
    )
    return Cell(
        num_runs=len(runs),
        num_won=sum(run.num_only_ours > run.num_only_theirs for run in runs),
        accuracy=(right / num_test, *wilson_interval(right / num_test, num_test)),
        log_loss=log_loss,
        calibration_error=error,
        seconds=seconds,
        difference=difference,
        is_significant=is_significant,
    )


def _difference_over_draws(runs: Sequence[Run]) -> tuple[tuple[float, float, float], bool]:
    """Return the difference with its interval, and whether it is significant, as `Cell` has them."""
    if len(runs) == 1:
        ours, theirs = runs[0].num_only_ours, runs[0].num_only_theirs
        low, high = paired_interval(runs[0].num_test, theirs, ours)
        return ((ours - theirs) / runs[0].num_test, low, high), mcnemar_p(ours, theirs) < 1 - CONFIDENCE
    differences = np.array([(run.num_only_ours - run.num_only_theirs) / run.num_test for run in runs])
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(runs)))
    margin = float(stdtrit(len(runs) - 1, (1 + CONFIDENCE) / 2)) * error
    return (mean, mean - margin, mean + margin), abs(mean) > margin


def tables(runs: Sequence[Run]) -> str:
    """Return Markdown tables of accuracies, of the other scores and of seconds, and a line that counts the verdicts."""
    names = list(dict.fromkeys(run.contestant for run in runs))
    rows = list(dict.fromkeys((run.data_set, run.size) for run in runs))
    keys = dict.fromkeys((run.data_set, run.size, run.contestant) for run in runs)
    cells = {key: pool([run for run in runs if (run.data_set, run.size, run.contestant) == key]) for key in keys}
    others = [name for name in names if name != OURS]
    lines = [
        "Accuracy of the head with its 95 % interval. For each rival: its accuracy; the head's minus it, with the "
        "interval over the draws; the draws that the head won. **Bold**: significant (the interval excludes 0; of a "
        "single draw: exact McNemar test, p < 0.05).\n",
        *_table(rows, cells, {OURS: _own_accuracy, **dict.fromkeys(others, _difference)}),
        "\nLog loss in nats / expected calibration error.\n",
        *_table(rows, cells, dict.fromkeys(names, lambda cell: f"{cell.log_loss:.3f} / {cell.calibration_error:.3f}")),
        "\nSeconds to choose and fit, in one thread.\n",
        *_table(rows, cells, dict.fromkeys(names, lambda cell: f"{cell.seconds:.2f}")),
        "",
    ]
    for name in others:
        verdicts = [cell.verdict for key, cell in cells.items() if key[2] == name]
        lines.append(
            f"Against {name}, the head is significantly better in {verdicts.count('better')} of {len(verdicts)} cells "
            f"and worse in {verdicts.count('worse')}."
        )
    return "\n".join(lines)


def _table(
    rows: Sequence[tuple[str, str]],
    cells: Mapping[tuple[str, str, str], Cell],
    columns: Mapping[str, Callable[[Cell], str]],
) -> list[str]:
    """Return a table with a row for each data set and size, and a column for each contestant."""
    body = [
        [*row, *(show(cells[*row, name]) if (*row, name) in cells else "" for name, show in columns.items())]
        for row in rows
    ]
    return markdown(["data", "images per class", *columns], body)


def _own_accuracy(cell: Cell) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*cell.accuracy)


def _difference(cell: Cell) -> str:
    text = "{:+.3f} ({:+.3f} to {:+.3f})".format(*cell.difference)
    won = f", {cell.num_won}/{cell.num_runs}"
    return f"{cell.accuracy[0]:.3f}; " + (f"**{text}**" if cell.verdict else text) + won


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows)]
