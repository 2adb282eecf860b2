"""The tables and numbers that the head writes beside its bundle and predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import softmax

from stages.core.linear.selection import Scored
from stages.core.tables import Predictions, SplitRow, write_table
from stages.head.curves import CurvePoint, wilson_interval
from stages.head.neighbours import Pair
from stages.head.train import TrainedHead


def write_tap_curve(path: Path, taps: Mapping[str, Scored], chosen: str, num_images: int) -> None:
    """Write each tap's cross-validated accuracy with its 95 % interval, by depth."""
    rows = []
    for depth, (tap, scored) in enumerate(taps.items(), start=1):
        low, high = wilson_interval(scored.accuracy, num_images)
        numbers = [f"{value:.6f}" for value in (scored.accuracy, low, high, scored.log_loss)]
        rows.append([depth, tap, *numbers, f"{scored.c or 0:g}", int(tap == chosen)])
    header = ["depth", "tap", "accuracy", "accuracy_low", "accuracy_high", "log_loss", "c", "chosen"]
    write_table(path, header, rows)


def write_learning_curve(path: Path, curve: Sequence[CurvePoint]) -> None:
    """Write the accuracy with its 95 % interval at each number of training images."""
    rows = [(point.num_images, *(f"{x:.6f}" for x in (point.accuracy, point.low, point.high))) for point in curve]
    write_table(path, ["num_images", "accuracy", "accuracy_low", "accuracy_high"], rows)


def write_label_suspects(path: Path, out_of_fold: Predictions) -> int:
    """Write the training images for which another class is more probable than their label; return how many.

    The least probable label comes first (self-confidence; Northcutt et al. 2021).
    """
    probabilities = softmax(out_of_fold.logits, axis=1)
    best = probabilities.argmax(axis=1)
    number = {name: position for position, name in enumerate(out_of_fold.classes)}
    own = np.array([number[label] for label in out_of_fold.labels])
    confidence = probabilities[np.arange(len(own)), own]
    suspects = [row for row in np.argsort(confidence, kind="stable") if best[row] != own[row]]
    write_table(
        path,
        ["digest", "path", "label", "probability", "preferred", "preferred_probability"],
        (
            (
                out_of_fold.digests[row],
                out_of_fold.paths[row],
                out_of_fold.labels[row],
                f"{confidence[row]:.6f}",
                out_of_fold.classes[best[row]],
                f"{probabilities[row, best[row]]:.6f}",
            )
            for row in suspects
        ),
    )
    return len(suspects)


def write_near_duplicates(path: Path, pairs: Sequence[Pair], split: Sequence[SplitRow]) -> int:
    """Write each pair of a reported and a training image that look alike; return how many reported images there are."""
    known = {row.digest: row for row in split}
    write_table(
        path,
        ["digest", "path", "label", "training_digest", "training_path", "training_label", "similarity"],
        (
            (
                *(pair.reported, known[pair.reported].path, known[pair.reported].label),
                *(pair.training, known[pair.training].path, known[pair.training].label),
                f"{pair.similarity:.6f}",
            )
            for pair in pairs
        ),
    )
    return len({pair.reported for pair in pairs})


def numbers(trained: TrainedHead) -> dict[str, float | int | str]:
    """Return what `dvc metrics show` shows of the training."""
    strength = {} if trained.fitted.scored.c is None else {"c": trained.fitted.scored.c}
    return {
        "tap": trained.bundle.tap,
        **strength,
        "temperature": trained.bundle.temperature,
        "cv_accuracy": trained.fitted.scored.accuracy,
        "cv_log_loss": trained.fitted.scored.log_loss,
        **{f"knn_{number}_accuracy": accuracy for number, accuracy in trained.knn.items()},
    }


def summary(trained: TrainedHead, kind: str) -> str:
    """Return what was chosen, in a line."""
    strength = "" if trained.fitted.scored.c is None else f", c {trained.fitted.scored.c:g}"
    num_images = len(trained.out_of_fold.labels)
    low, high = wilson_interval(trained.fitted.scored.accuracy, num_images)
    return (
        f"{num_images} training images, {len(trained.bundle.classes)} classes: {kind} on tap "
        f"{trained.bundle.tap}{strength}; cross-validated accuracy {trained.fitted.scored.accuracy:.4f} "
        f"({low:.3f} to {high:.3f})"
    )
