"""Figures: which charts and tables the page has, from the content."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.tables.classes import class_numbers
from headstart.tables.names import TRACKS
from headstart.tables.predictions import Predictions
from headstart.tables.rows import Row
from stages.report.charts import Axis, Chart, Series, line_chart
from stages.report.content import Content


@dataclass(frozen=True)
class Confusion:
    """Which classes were taken for which.

    Attributes:
        classes: (C,) of rows (actual) and columns (predicted); empty if they are too many for a table.
        counts: (C, C)
        mistakes: `actual, predicted, images`, the most frequent first.
    """

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    mistakes: Sequence[tuple[str, str, int]]


def charts(content: Content) -> list[Chart]:
    """Return the charts of the page, in their order. To add one, add an entry."""
    both = [content.tracks[name] for name in TRACKS]
    ideal = Series("ideal", [0, 1], [0, 1], role="ideal", has_marks=False)
    accuracy, accuracy_from_0 = Axis("accuracy", high=1.0), _fraction("accuracy")
    start = _line("start", content.epochs, "epoch", "start_accuracy", role="ideal", has_marks=False)
    return [
        line_chart(
            "Cross-validated accuracy by layer",
            Axis("layer, by depth", names=[one.layer for one in content.layers]),
            accuracy,
            [_line("head", content.layers, "depth", "accuracy", has_band=True)],
        ),
        line_chart(
            "Cross-validated accuracy by number of training images",
            Axis("training images", is_log=True),
            accuracy,
            [_line("head", content.learning, "num_images", "accuracy", has_band=True)],
        ),
        line_chart(
            "Accuracy of the inner validation by epoch of fine-tuning",
            Axis("epoch (0 is the start)", is_whole=True),
            accuracy,
            [_line("finetune", content.epochs, "epoch", "accuracy"), start],
        ),
        line_chart(
            "Reliability: accuracy of the images of each confidence",
            _fraction("confidence"),
            accuracy_from_0,
            [ideal, *(_line(one.name, one.reliability, "confidence", "accuracy", has_band=True) for one in both)],
        ),
        line_chart(
            "Accuracy when only the most confident part is decided",
            _fraction("part of the images that is decided"),
            accuracy,
            [_line(one.name, one.coverage, "coverage", "accuracy", has_marks=False) for one in both],
        ),
        line_chart(
            "True against false positives (ROC)",
            _fraction("false positive rate"),
            _fraction("true positive rate"),
            [
                ideal,
                *(
                    _line(one.name, one.roc, "false_positive_rate", "true_positive_rate", has_marks=False)
                    for one in both
                ),
            ],
        ),
    ]


def _fraction(label: str) -> Axis:
    return Axis(label, low=0.0, high=1.0)


def _line(
    name: str,
    rows: Sequence[Row],
    x: str,
    y: str,
    *,
    role: str | None = None,
    has_band: bool = False,
    has_marks: bool = True,
) -> Series:
    """Return a line through columns of a table, with the interval of `y` as its band."""

    def column(name: str) -> list[float]:
        return [getattr(row, name) for row in rows]

    low, high = (column(f"{y}_low"), column(f"{y}_high")) if has_band else ((), ())
    return Series(name, column(x), column(y), low, high, role=role or name, has_marks=has_marks)


def confusion(predictions: Predictions, most_classes: int) -> Confusion:
    """Count which classes were taken for which; as a table only where there are few."""
    names = predictions.classes
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (class_numbers(predictions.labels, names), class_numbers(predictions.predicted, names)), 1)
    wrong = [(names[i], names[j], int(counts[i, j])) for i, j in np.argwhere(counts) if i != j]
    mistakes = sorted(wrong, key=lambda row: (-row[2], row))[:most_classes]
    if len(names) > most_classes:
        return Confusion([], [], mistakes)
    return Confusion(names, counts.tolist(), mistakes)
