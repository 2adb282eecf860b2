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
from headstart.tables.predictions import Predictions
from headstart.tables.rows import write_rows
from stages.evaluate import curves
from stages.evaluate.scores import Outcomes, Score, class_scores


def write_tables(folder: Path, predictions: Predictions, outcomes: Outcomes) -> dict[str, float]:
    """Write the tables behind the plots and the report; return the areas under the curves."""
    roc, precision_recall, areas = curves.roc_and_precision_recall(predictions)
    pairs = zip(predictions.labels, predictions.predicted, strict=True)
    write_table(folder / "confusion.csv", ["actual", "predicted"], pairs)
    write_rows(folder / "reliability.csv", curves.reliability(outcomes), ReliabilityPoint)
    write_rows(folder / "coverage.csv", curves.coverage(outcomes), CoveragePoint)
    write_rows(folder / "roc.csv", roc, RocPoint)
    write_rows(folder / "precision_recall.csv", precision_recall, PrecisionRecallPoint)
    write_rows(folder / "classes.csv", class_scores(outcomes, predictions.classes), ClassScore)
    return areas


def write_scores(
    path: Path, everywhere: Mapping[str, Score], distinct: Mapping[str, Score], areas: Mapping[str, float]
) -> None:
    """Write every score with its interval, on all test images and on those that look like no training image."""
    scores = {**everywhere, **{name: Score(area, None, None) for name, area in areas.items()}}
    nothing = (None, None, None)
    rows = [ScoreRow(name, *one, *distinct.get(name, nothing)) for name, one in scores.items()]
    write_rows(path, rows, ScoreRow)


def numbers(
    num_images: int, everywhere: Mapping[str, Score], distinct: Mapping[str, Score], num_distinct: int
) -> dict[str, float | int]:
    """Return the scores and their numbers of images, by name. `dvc metrics show` shows those in `METRICS`."""
    _, low, high = everywhere["accuracy"]
    assert low is not None, "accuracy has an interval"
    assert high is not None, "accuracy has an interval"
    return {
        **{name: one.value for name, one in everywhere.items()},
        "accuracy_low": low,
        "accuracy_high": high,
        "num_images": num_images,
        **({"distinct_accuracy": distinct["accuracy"].value} if distinct else {}),
        "num_distinct": num_distinct,
    }


def summary(track: str, numbers: Mapping[str, float | int]) -> str:
    """Return the outcome in a line."""
    return (
        f"{track}: accuracy {numbers['accuracy']:.4f} ({numbers['accuracy_low']:.3f} to "
        f"{numbers['accuracy_high']:.3f}) on {numbers['num_images']} test images"
    )
