"""Content: the results of the other stages, which the page and the model cards show."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import read_config
from headstart.base.errors import TableError
from headstart.tables.compare import Advice, read_advice
from headstart.tables.evaluate import ClassScore, CoveragePoint, ReliabilityPoint, RocPoint, ScoreRow
from headstart.tables.finetune import EpochPoint, SampleRow
from headstart.tables.head import LabelSuspect, LayerScore, LearningPoint, NearDuplicate
from headstart.tables.index import STATUSES, IndexRow
from headstart.tables.metrics import read_metrics
from headstart.tables.names import TRACKS
from headstart.tables.predictions import Predictions, read_predictions
from headstart.tables.projection import ProjectedImage
from headstart.tables.robustness import Robustness, read_robustness
from headstart.tables.rows import read_rows
from headstart.tables.split import SplitRow

_COUNTS = (
    "num_files",
    "num_classes",
    "num_train",
    "num_val",
    "num_test",
    "num_relabelled",
    "num_dropped",
    "num_unlabelled",
    "num_across_splits",
    *(f"num_{status}" for status in STATUSES),
)
_SAMPLES = Path("diagnostics/finetune_batch")
_COMPARED = ("ship", "accuracy", "accuracy_low", "accuracy_high", "num_images")
_TUNED = ("augmentation", "num_epochs", "num_training_images")


@dataclass(frozen=True)
class Track:
    """One track on the test images.

    Attributes:
        name: `head` or `finetune`.
        predictions: Predictions for the N test images.
        probabilities: (N, C) calibrated probabilities, in the order of the predictions.
        scores: Scores with their intervals.
        classes: Scores of each class.
        reliability: Accuracy by confidence.
        coverage: Accuracy on the most confident images.
        roc: The ROC curve.
        bundle: `config.json` of the track's model.
    """

    name: str
    predictions: Predictions
    probabilities: NDArray[np.float64]
    scores: Sequence[ScoreRow]
    classes: Sequence[ClassScore]
    reliability: Sequence[ReliabilityPoint]
    coverage: Sequence[CoveragePoint]
    roc: Sequence[RocPoint]
    bundle: Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """The results of the other stages.

    Attributes:
        index: Every file of the data set.
        data: Counts of files, classes and splits.
        tracks: Both tracks, by name.
        comparison: Comparison of the two tracks.
        advice: Which track to use, and what to try next.
        layers: Cross-validated accuracy of each layer.
        learning: Cross-validated accuracy by number of training images.
        epochs: Scores of each epoch of fine-tuning.
        suspects: Training images whose label may be wrong.
        duplicates: Test images that look like training images.
        projection: The embeddings in two dimensions.
        robustness: Accuracy of both tracks on shifted pictures.
        split: Split and label of each image.
        tuned: Kind of augmentation, and numbers of epochs and training images of fine-tuning.
        samples: Training images whose augmented draws are shown.
        strips: The picture of each of them, a WebP file.
    """

    index: Sequence[IndexRow]
    data: Mapping[str, Any]
    tracks: Mapping[str, Track]
    comparison: Mapping[str, Any]
    advice: Advice
    layers: Sequence[LayerScore]
    learning: Sequence[LearningPoint]
    epochs: Sequence[EpochPoint]
    suspects: Sequence[LabelSuspect]
    duplicates: Sequence[NearDuplicate]
    projection: Sequence[ProjectedImage]
    robustness: Robustness
    split: Sequence[SplitRow]
    tuned: Mapping[str, Any]
    samples: Sequence[SampleRow]
    strips: Sequence[bytes]


def read_content() -> Content:
    """Read the content from the working directory.

    Raises:
        TableError: A table is missing, damaged, or from another run than the others.
        BundleError: A bundle is missing or damaged.
    """
    samples = read_rows(_SAMPLES / "images.csv", SampleRow)
    content = Content(
        index=read_rows(Path("data/index.csv"), IndexRow),
        data=read_metrics(Path("diagnostics/data.json"), *_COUNTS),
        tracks={name: _track(name) for name in TRACKS},
        comparison=read_metrics(Path("metrics/finetune_minus_head.json"), *_COMPARED),
        advice=read_advice(Path("diagnostics/advice.json")),
        layers=read_rows(Path("plots/head_training/layers.csv"), LayerScore),
        learning=read_rows(Path("plots/head_training/learning.csv"), LearningPoint),
        epochs=read_rows(Path("plots/finetune_training/curve.csv"), EpochPoint),
        suspects=read_rows(Path("diagnostics/head/label_suspects.csv"), LabelSuspect),
        duplicates=read_rows(Path("diagnostics/head/near_duplicates.csv"), NearDuplicate),
        projection=read_rows(Path("diagnostics/projection.csv"), ProjectedImage),
        robustness=read_robustness(Path("diagnostics/robustness.json")),
        split=read_rows(Path("data/split.csv"), SplitRow),
        tuned=read_metrics(Path("diagnostics/finetune_training.json"), *_TUNED),
        samples=samples,
        strips=[_read_strip(_SAMPLES / one.file) for one in samples],
    )
    _check(content)
    return content


def _read_strip(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror}). Run: dvc repro finetune") from error


def _track(name: str) -> Track:
    predictions = read_predictions(Path(f"predictions/{name}.csv"))
    folder = Path("plots") / name
    return Track(
        name=name,
        predictions=predictions,
        probabilities=predictions.probabilities,
        scores=read_rows(folder / "scores.csv", ScoreRow),
        classes=read_rows(folder / "classes.csv", ClassScore),
        reliability=read_rows(folder / "reliability.csv", ReliabilityPoint),
        coverage=read_rows(folder / "coverage.csv", CoveragePoint),
        roc=read_rows(folder / "roc.csv", RocPoint),
        bundle=read_config(Path("models") / name),
    )


def _check(content: Content) -> None:
    """Check that all tables are about the same images. A page of two runs would mix their photos and numbers."""
    if content.comparison["ship"] not in content.tracks:
        raise TableError(
            f"metrics/finetune_minus_head.json: ship is {content.comparison['ship']!r}; expected one of "
            f"{sorted(content.tracks)}. Run: dvc repro compare"
        )
    indexed = {row.digest for row in content.index}
    split = {row.digest for row in content.split}
    tested = {row.digest for row in content.split if row.split == "test"}
    _require(split, indexed, "data/split.csv", "data/index.csv")
    for name, track in content.tracks.items():
        _require(track.predictions.digests, tested, f"predictions/{name}.csv", "the test images of data/split.csv")
        _require(tested, set(track.predictions.digests), "data/split.csv", f"predictions/{name}.csv")
        if [one.name for one in track.classes] != list(track.predictions.classes) or not track.scores:
            raise TableError(f"plots/{name}: does not fit predictions/{name}.csv. Run: dvc repro evaluate@{name}")
    tables = {
        "diagnostics/head/label_suspects.csv": [one.digest for one in content.suspects],
        "diagnostics/head/near_duplicates.csv": [
            digest for one in content.duplicates for digest in (one.digest, one.training_digest)
        ],
    }
    for path, digests in tables.items():
        _require(digests, split, path, "data/split.csv")
    # The map was drawn from all embeddings: also those of images without a label, and of dropped ones.
    _require([one.digest for one in content.projection], indexed, "diagnostics/projection.csv", "data/index.csv")


def _require(digests: Collection[str], known: Collection[str], path: str, where: str) -> None:
    strange = sorted(set(digests) - set(known))
    if strange:
        raise TableError(f"{path}: {len(strange)} images are not in {where}, the first is {strange[0]}. Run: dvc repro")
