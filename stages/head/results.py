"""The tables and numbers that the stage writes besides the bundle and the predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import softmax

from headstart.tables.classes import class_numbers
from headstart.tables.head import LabelSuspect, LayerScore, LearningPoint, NearDuplicate
from headstart.tables.intervals import wilson_interval
from headstart.tables.metrics import write_metrics
from headstart.tables.predictions import Predictions
from headstart.tables.rows import write_rows
from headstart.tables.split import SplitRow
from stages.head.neighbours import SimilarPair
from stages.head.train import TrainedHead

SEPARATOR = " + "  # between the names of layers


def write_tables(trained: TrainedHead, split: Sequence[SplitRow]) -> str:
    """Write the plots and the diagnostics of the training, and return one line that says what to look at.

    Args:
        trained: The trained head.
        split: Rows of all images.
    """
    suspects, pairs = label_suspects(trained.out_of_fold), named_pairs(trained.near_duplicates, split)
    write_rows(Path("plots/head_training/layers.csv"), layer_scores(trained), LayerScore)
    write_rows(Path("plots/head_training/learning.csv"), trained.learning_curve.points, LearningPoint)
    write_rows(Path("diagnostics/head/label_suspects.csv"), suspects, LabelSuspect)
    write_rows(Path("diagnostics/head/near_duplicates.csv"), pairs, NearDuplicate)
    write_metrics(Path("diagnostics/head_training.json"), numbers(trained))
    alike = len({pair.digest for pair in pairs})
    return f"{len(suspects)} labels to check, {alike} test images look like training images (diagnostics/head)"


def layer_scores(trained: TrainedHead) -> list[LayerScore]:
    """Return the cross-validated accuracy of each set of layers that was tried, with its interval."""
    scores, dims = trained.fitted.layer_scores, trained.dims
    num_images = len(trained.out_of_fold.labels)
    num_columns = {layers: sum(dims[layer] for layer in layers) for layers in scores}
    ordered = sorted(scores, key=lambda layers: (len(layers) > 1, num_columns[layers] if len(layers) > 1 else 0))
    return [
        LayerScore(
            place,
            SEPARATOR.join(layers),
            len(layers),
            num_columns[layers],
            scores[layers].accuracy,
            *wilson_interval(scores[layers].accuracy, num_images),
            log_loss=scores[layers].log_loss,
            c=scores[layers].c or 0.0,
            chosen=int(layers == trained.fitted.layers),
        )
        for place, layers in enumerate(ordered, start=1)
    ]


def label_suspects(out_of_fold: Predictions) -> list[LabelSuspect]:
    """Return the training images whose label is less probable than another class.

    The image with the least probable label comes first (self-confidence; Northcutt et al. 2021).

    Args:
        out_of_fold: Calibrated logits of every training image, by the model that did not see its fold.
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


def named_pairs(pairs: Sequence[SimilarPair], split: Sequence[SplitRow]) -> list[NearDuplicate]:
    """Return pairs of images that look alike, with their paths and labels.

    Args:
        pairs: Pairs by digest.
        split: Rows of all images.
    """
    known = {row.digest: row for row in split}
    return [
        NearDuplicate(
            *(pair.test, known[pair.test].path, known[pair.test].label),
            *(pair.training, known[pair.training].path, known[pair.training].label),
            similarity=pair.similarity,
        )
        for pair in pairs
    ]


def numbers(trained: TrainedHead) -> dict[str, float | int | str]:
    """Return the numbers of the training by name: what was chosen, and its cross-validation scores."""
    c = {} if trained.fitted.score.c is None else {"c": trained.fitted.score.c}
    return {
        "kind": trained.fitted.kind,
        "layers": SEPARATOR.join(trained.bundle.layers),
        "num_columns": sum(trained.bundle.dims),
        **c,
        "temperature": trained.bundle.temperature,
        "cv_accuracy": trained.fitted.score.accuracy,
        "cv_log_loss": trained.fitted.score.log_loss,
        "doubling_gain": trained.learning_curve.doubling_gain,
        "doubling_gain_low": trained.learning_curve.doubling_gain_low,
        "doubling_gain_high": trained.learning_curve.doubling_gain_high,
        **{f"knn_{number}_accuracy": accuracy for number, accuracy in trained.knn.items()},
    }


def summary(trained: TrainedHead) -> str:
    """Return one line that says what was chosen and how good it is."""
    c = "" if trained.fitted.score.c is None else f", c {trained.fitted.score.c:g}"
    num_images, layers, kind = len(trained.out_of_fold.labels), trained.fitted.layers, trained.fitted.kind
    where = f"layer{'s' if len(layers) > 1 else ''} {SEPARATOR.join(layers)}"
    return (
        f"{num_images} training images, {len(trained.bundle.classes)} classes: {kind} on {where}{c}; "
        f"cross-validated accuracy {trained.fitted.score.accuracy:.4f}"
    )
