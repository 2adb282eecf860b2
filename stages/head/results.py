"""The tables and numbers that the head writes beside its bundle and predictions."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import softmax

from headstart.linear.selection import Scored
from headstart.tables.classes import class_numbers
from headstart.tables.head import LabelSuspect, LayerScore, NearDuplicate
from headstart.tables.intervals import wilson_interval
from headstart.tables.predictions import Predictions
from headstart.tables.split import SplitRow
from stages.head.neighbours import Pair
from stages.head.train import TrainedHead


def layer_scores(layers: Mapping[str, Scored], chosen: str, num_images: int) -> list[LayerScore]:
    """Return each layer's cross-validated accuracy with its interval, by depth."""
    return [
        LayerScore(
            depth,
            layer,
            scored.accuracy,
            *wilson_interval(scored.accuracy, num_images),
            log_loss=scored.log_loss,
            c=scored.c or 0.0,
            chosen=int(layer == chosen),
        )
        for depth, (layer, scored) in enumerate(layers.items(), start=1)
    ]


def label_suspects(out_of_fold: Predictions) -> list[LabelSuspect]:
    """Return the training images for which another class is more probable than their label.

    The least probable label comes first (self-confidence; Northcutt et al. 2021).
    """
    probabilities = softmax(out_of_fold.logits, axis=1)
    best = probabilities.argmax(axis=1)
    own = class_numbers(out_of_fold.labels, out_of_fold.classes)
    confidence = probabilities[np.arange(len(own)), own]
    return [
        LabelSuspect(
            digest=out_of_fold.digests[row],
            path=out_of_fold.paths[row],
            label=out_of_fold.labels[row],
            probability=float(confidence[row]),
            preferred=out_of_fold.classes[best[row]],
            preferred_probability=float(probabilities[row, best[row]]),
        )
        for row in np.argsort(confidence, kind="stable")
        if best[row] != own[row]
    ]


def named_pairs(pairs: Sequence[Pair], split: Sequence[SplitRow]) -> list[NearDuplicate]:
    """Return pairs of images that look alike with their paths and labels."""
    known = {row.digest: row for row in split}
    return [
        NearDuplicate(
            *(pair.reported, known[pair.reported].path, known[pair.reported].label),
            *(pair.training, known[pair.training].path, known[pair.training].label),
            similarity=pair.similarity,
        )
        for pair in pairs
    ]


def numbers(trained: TrainedHead) -> dict[str, float | int | str]:
    """Return what `dvc metrics show` shows of the training."""
    strength = {} if trained.fitted.scored.c is None else {"c": trained.fitted.scored.c}
    return {
        "layer": trained.bundle.layer,
        **strength,
        "temperature": trained.bundle.temperature,
        "cv_accuracy": trained.fitted.scored.accuracy,
        "cv_log_loss": trained.fitted.scored.log_loss,
        "doubling_gain": trained.learning_curve.doubling_gain,
        "doubling_gain_low": trained.learning_curve.doubling_gain_low,
        "doubling_gain_high": trained.learning_curve.doubling_gain_high,
        **{f"knn_{number}_accuracy": accuracy for number, accuracy in trained.knn.items()},
    }


def summary(trained: TrainedHead, kind: str) -> str:
    """Return what was chosen, in a line."""
    strength = "" if trained.fitted.scored.c is None else f", c {trained.fitted.scored.c:g}"
    num_images = len(trained.out_of_fold.labels)
    low, high = wilson_interval(trained.fitted.scored.accuracy, num_images)
    return (
        f"{num_images} training images, {len(trained.bundle.classes)} classes: {kind} on layer "
        f"{trained.bundle.layer}{strength}; cross-validated accuracy {trained.fitted.scored.accuracy:.4f} "
        f"({low:.3f} to {high:.3f})"
    )
