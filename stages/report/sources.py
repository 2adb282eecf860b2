"""Sources: everything that the page is made of, as the other rooms wrote it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from stages.core import findings
from stages.core.errors import TableError
from stages.core.files import read_metrics
from stages.core.tables import IndexRow, Predictions, SplitRow, read_predictions, read_rows

TRACKS = ("head", "finetune")


@dataclass(frozen=True)
class Track:
    """One track on the reported images.

    Attributes:
        name: `head` or `finetune`.
        predictions: In their own order.
        probabilities: (N, C) calibrated.
        scores: Each with its interval.
        classes: Scores by class.
        reliability: Accuracy by confidence.
        coverage: Accuracy on the most confident part.
        roc: True against false positives.
        bundle: `config.json` of its model.
    """

    name: str
    predictions: Predictions
    probabilities: NDArray[np.float64]
    scores: Sequence[findings.ScoreRow]
    classes: Sequence[findings.ClassScore]
    reliability: Sequence[findings.ReliabilityPoint]
    coverage: Sequence[findings.CoveragePoint]
    roc: Sequence[findings.RocPoint]
    bundle: Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """What the other rooms wrote.

    Attributes:
        index: The ledger.
        data: Counts of files, classes and splits.
        tracks: By name.
        comparison: Of the two.
        advice: What to make of it.
        taps: Accuracy by layer.
        learning: Accuracy by number of training images.
        epochs: Of fine-tuning; cells as text.
        suspects: Training images whose label is doubted.
        duplicates: Reported images that look like training images.
        projection: Where embeddings lie in two dimensions.
        split: Split and label of each image.
        tuned: How long fine-tuning went on, and what it kept.
    """

    index: Sequence[IndexRow]
    data: Mapping[str, Any]
    tracks: Mapping[str, Track]
    comparison: Mapping[str, Any]
    advice: Mapping[str, Any]
    taps: Sequence[findings.TapScore]
    learning: Sequence[findings.LearningPoint]
    epochs: Sequence[findings.EpochPoint]
    suspects: Sequence[findings.LabelSuspect]
    duplicates: Sequence[findings.NearDuplicate]
    projection: Sequence[findings.ProjectedImage]
    split: Sequence[SplitRow]
    tuned: Mapping[str, Any]


def read_sources() -> Sources:
    """Read them from the working directory.

    Raises:
        TableError: A file is missing or not what its room writes.
    """
    return Sources(
        index=read_rows(Path("data/index.csv"), IndexRow),
        data=read_metrics(Path("metrics/data.json"), "data"),
        tracks={name: _track(name) for name in TRACKS},
        comparison=read_metrics(Path("metrics/comparison.json"), "comparison"),
        advice=_json(Path("diagnostics/advice.json")),
        taps=read_rows(Path("plots/head_training/taps.csv"), findings.TapScore),
        learning=read_rows(Path("plots/head_training/learning.csv"), findings.LearningPoint),
        epochs=read_rows(Path("plots/finetune_training/curve.csv"), findings.EpochPoint),
        suspects=read_rows(Path("diagnostics/head/label_suspects.csv"), findings.LabelSuspect),
        duplicates=read_rows(Path("diagnostics/head/near_duplicates.csv"), findings.NearDuplicate),
        projection=read_rows(Path("diagnostics/projection.csv"), findings.ProjectedImage),
        split=read_rows(Path("data/split.csv"), SplitRow),
        tuned=read_metrics(Path("metrics/finetune_training.json"), "finetune_training"),
    )


def _track(name: str) -> Track:
    predictions = read_predictions(Path(f"predictions/{name}.csv"))
    folder = Path("plots") / name
    return Track(
        name=name,
        predictions=predictions,
        probabilities=softmax(predictions.logits, axis=1),
        scores=read_rows(folder / "scores.csv", findings.ScoreRow),
        classes=read_rows(folder / "classes.csv", findings.ClassScore),
        reliability=read_rows(folder / "reliability.csv", findings.ReliabilityPoint),
        coverage=read_rows(folder / "coverage.csv", findings.CoveragePoint),
        roc=read_rows(folder / "roc.csv", findings.RocPoint),
        bundle=_json(Path("models") / name / "config.json"),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: cannot be read ({error}). Run: dvc repro") from error
