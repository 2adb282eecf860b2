"""Figures: the charts and the confusion tables of the page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.tables.classes import class_numbers
from headstart.tables.head import LayerScore
from headstart.tables.names import TRACKS
from headstart.tables.predictions import Predictions
from headstart.tables.robustness import Robustness
from headstart.tables.rows import Row
from stages.report.charts import Axis, Chart, Series, line_chart
from stages.report.content import Content

_BESIDE = 0.1  # of the distance between two names of an axis


@dataclass(frozen=True)
class Confusion:
    """Which classes were predicted as which.

    Attributes:
        classes: (C,) names of the rows (actual) and columns (predicted); empty if there are too many for a table.
        counts: (C, C) numbers of images; empty if there are too many classes.
        mistakes: `(actual, predicted, number of images)`, the most frequent mistake first.
    """

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    mistakes: Sequence[tuple[str, str, int]]


def charts(content: Content) -> list[Chart]:
    """Return the charts of the page, in their order. To add a chart, add an entry."""
    both = [content.tracks[name] for name in TRACKS]
    ideal = Series("ideal", [0, 1], [0, 1], role="ideal", has_marks=False)
    accuracy, accuracy_from_0 = Axis("accuracy", high=1.0), _fraction("accuracy")
    start = _line("start", content.epochs, "epoch", "start_accuracy", role="ideal", has_marks=False)
    return [
        line_chart(
            "Cross-validated accuracy by layer and by set of layers",
            Axis(
                "layers",
                names=[one.layers for one in content.layers],
                short_names=[_short_name(one) for one in content.layers],
            ),
            accuracy,
            [_line("head", content.layers, "place", "accuracy", has_band=True)],
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
            "Reliability: accuracy by confidence",
            _fraction("confidence"),
            accuracy_from_0,
            [ideal, *(_line(one.name, one.reliability, "confidence", "accuracy", has_band=True) for one in both)],
        ),
        line_chart(
            "Accuracy on the most confident images",
            _fraction("coverage (fraction of the images)"),
            accuracy,
            [_line(one.name, one.coverage, "coverage", "accuracy", has_marks=False) for one in both],
        ),
        line_chart(
            "ROC: true positive rate by false positive rate",
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


def robustness_chart(robustness: Robustness) -> Chart:
    """Return the chart of the accuracy on shifted pictures. The points of the tracks stand side by side.

    Args:
        robustness: Accuracies on at least one image.
    """
    conditions = robustness.conditions
    lines = []
    for side, track in zip((-_BESIDE, _BESIDE), TRACKS, strict=True):
        found = [getattr(one, track) for one in conditions]
        accuracies, lows, highs = ([getattr(one, name) for one in found] for name in ("accuracy", "low", "high"))
        places = [place + side for place in range(1, len(found) + 1)]
        lines.append(Series(track, places, accuracies, lows, highs, role=track, is_joined=False))
    names = [one.name for one in conditions]
    return line_chart("Accuracy on shifted pictures", Axis("shift", names=names), Axis("accuracy", high=1.0), lines)


def _fraction(label: str) -> Axis:
    return Axis(label, low=0.0, high=1.0)


def _short_name(score: LayerScore) -> str:
    """Return the name of a layer, or the number of several: their names would not fit below the axis."""
    return score.layers if score.num_layers == 1 else f"{score.num_layers} layers"


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
    """Return the line of two columns of a table. If it has a band, the band is the interval of `y`."""

    def column(name: str) -> list[float]:
        return [getattr(row, name) for row in rows]

    low, high = (column(f"{y}_low"), column(f"{y}_high")) if has_band else ((), ())
    return Series(name, column(x), column(y), low, high, role=role or name, has_marks=has_marks)


def confusion(predictions: Predictions, most_classes: int) -> Confusion:
    """Count which classes were predicted as which.

    Args:
        predictions: Predictions of one track.
        most_classes: With more classes there is no table. At most so many mistakes are listed.
    """
    names = predictions.classes
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (class_numbers(predictions.labels, names), class_numbers(predictions.predicted, names)), 1)
    wrong = [(names[i], names[j], int(counts[i, j])) for i, j in np.argwhere(counts) if i != j]
    mistakes = sorted(wrong, key=lambda row: (-row[2], row))[:most_classes]
    if len(names) > most_classes:
        return Confusion([], [], mistakes)
    return Confusion(names, counts.tolist(), mistakes)
