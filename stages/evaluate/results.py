"""The tables and numbers that the evaluation of one track writes."""

from collections.abc import Mapping
from pathlib import Path

from headstart.base.csv_files import write_table
from headstart.tables.evaluate import (
    ClassScore,
    CoveragePoint,
    PrecisionRecallPoint,
    ReliabilityPoint,
    RocPoint,
    ScoreRow,
)
from headstart.tables.outcomes import Outcomes
from headstart.tables.predictions import Predictions
from headstart.tables.rows import write_rows
from stages.evaluate import curves
from stages.evaluate.class_scores import class_scores
from stages.evaluate.metrics import METRICS
from stages.evaluate.scores import Score


def write_tables(folder: Path, predictions: Predictions, outcomes: Outcomes) -> None:
    """Write the tables of classes and curves, which the plots and the report show."""
    pairs = zip(predictions.labels, predictions.predicted, strict=True)
    write_table(folder / "confusion.csv", ["actual", "predicted"], pairs)
    write_rows(folder / "reliability.csv", curves.reliability(outcomes), ReliabilityPoint)
    write_rows(folder / "coverage.csv", curves.coverage(outcomes), CoveragePoint)
    write_rows(folder / "roc.csv", curves.roc(outcomes), RocPoint)
    write_rows(folder / "precision_recall.csv", curves.precision_recall(outcomes), PrecisionRecallPoint)
    write_rows(folder / "classes.csv", class_scores(outcomes, predictions.classes), ClassScore)


def write_scores(path: Path, scores: Mapping[str, Score], distinct: Mapping[str, Score]) -> None:
    """Write every score with its interval.

    Args:
        path: CSV file to write.
        scores: Scores on all test images, by name of the metric.
        distinct: Scores on the test images that look like no training image; empty if there are none.
    """
    nothing = (None, None, None)
    rows = [
        ScoreRow(metric.name, metric.title, metric.better, *scores[metric.name], *distinct.get(metric.name, nothing))
        for metric in METRICS
        if metric.name in scores
    ]
    write_rows(path, rows, ScoreRow)


def numbers(
    num_images: int, scores: Mapping[str, Score], distinct: Mapping[str, Score], num_distinct: int
) -> dict[str, float | int]:
    """Return every score, the interval of the accuracy, and the numbers of images, by name.

    Args:
        num_images: Number of test images.
        scores: Scores on all test images, by name of the metric.
        distinct: Scores on the test images that look like no training image; empty if there are none.
        num_distinct: Number of these images.
    """
    _, low, high = scores["accuracy"]
    assert low is not None, "accuracy has an interval"
    assert high is not None, "accuracy has an interval"
    return {
        **{name: one.value for name, one in scores.items()},
        "accuracy_low": low,
        "accuracy_high": high,
        "num_images": num_images,
        **({"distinct_accuracy": distinct["accuracy"].value} if distinct else {}),
        "num_distinct": num_distinct,
    }


def shown(numbers: Mapping[str, float | int]) -> dict[str, float | int]:
    """Return those of the numbers that `dvc metrics show` shows."""
    names = {metric.name for metric in METRICS if metric.is_shown} | {"accuracy_low", "accuracy_high", "num_images"}
    return {name: value for name, value in numbers.items() if name in names}


def summary(track: str, numbers: Mapping[str, float | int]) -> str:
    """Return the accuracy, its interval and the number of images, in one line."""
    return (
        f"{track}: accuracy {numbers['accuracy']:.4f} ({numbers['accuracy_low']:.3f} to "
        f"{numbers['accuracy_high']:.3f}) on {numbers['num_images']} test images"
    )
