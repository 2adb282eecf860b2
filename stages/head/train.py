"""Training: cached embeddings and labels to a bundle, its predictions, and what the folds tell on the way."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from headstart.artifacts.bundle import Bundle
from headstart.artifacts.features import Features, check_finite, fingerprint
from headstart.artifacts.references import (
    MOST_HELD_OUT,
    MOST_REFERENCES,
    References,
    make_references,
    nearest_similarity,
)
from headstart.base.errors import DataError
from headstart.linear.moments import Array
from headstart.linear.rows import ROWS_FRACTION, STRETCH_BYTES, Rows
from headstart.linear.selection import held_out_logits
from headstart.tables.predictions import Predictions
from headstart.tables.split import SplitRow
from stages.head.curves import LearningCurve, learning_curve
from stages.head.fit import Fitted, fit_head
from stages.head.neighbours import Pair, knn_accuracies, near_duplicates
from stages.head.params import Params


@dataclass(frozen=True)
class TrainedHead:
    """What training gives.

    Attributes:
        bundle: The classifier.
        predictions: Calibrated logits for every test image.
        out_of_fold: Calibrated logits for every training image, by the fit that did not see it.
        fitted: How the classifier was chosen.
        learning_curve: Learning curve of the chosen layer, by ridge regression.
        knn: Accuracy of nearest neighbours on the chosen layer, by their number.
        near_duplicates: Test images that look like training images to the deepest layer.
        training_seconds: Seconds for choosing and fitting, without the by-products.
    """

    bundle: Bundle
    predictions: Predictions
    out_of_fold: Predictions
    fitted: Fitted
    learning_curve: LearningCurve
    knn: Mapping[int, float]
    near_duplicates: Sequence[Pair]
    training_seconds: float


def train_head(
    features: Features, split: Sequence[SplitRow], classes: Sequence[str], split_sha256: str, params: Params
) -> TrainedHead:
    """Choose and fit the head on the training rows, then, when all is chosen, predict the test images.

    Args:
        features: Open features file.
        split: Every row; `test` rows are reported, all others are for training and selection.
        classes: (C,) order of the logits.
        split_sha256: Digest of the split table, for the record.
        params: The sections `head` and `runtime`.

    Raises:
        DataError: A split without rows, or too few for the folds.
        FeatureFileError: An image without an embedding, or one that is not finite.
        ParamsError: A layer, a class or a device that is not there.
    """
    training = sorted((row for row in split if row.split != "test"), key=lambda row: row.digest)
    reported = sorted((row for row in split if row.split == "test"), key=lambda row: row.digest)
    if not training or not reported:
        raise DataError(
            f"data/split.csv: {len(training)} training and {len(reported)} test rows; expected some of each"
        )
    # One BLAS thread in each of ours: its own wait for each other in small products, and would show in the bits.
    with threadpool_limits(limits=1, user_api="blas"):
        start = time.monotonic()
        fitted = fit_head(features, training, classes, params)
        seconds = time.monotonic() - start
        curve = learning_curve(fitted.designs, fitted.ridge_c, params.head.seed)
        knn = knn_accuracies(fitted.designs, params.head.seed)
        pairs = _near_duplicates(features, fitted, training, reported, params)
    out_of_fold = held_out_logits(fitted.designs, fitted.folds) / np.float64(fitted.scored.temperature)
    bundle = Bundle(
        track="head",
        classes=classes,
        spec=features.spec,
        layer=fitted.layer,
        temperature=fitted.scored.temperature,
        trained_on={
            "features": fingerprint(features.spec),
            "split_sha256": split_sha256,
            "num_images": len(training),
        },
        weight=fitted.fit.weight.astype(np.float32),
        bias=fitted.fit.bias.astype(np.float32),
        references=_references(features, fitted, training, out_of_fold),
    )
    pieces = features.pieces(fitted.layer, features.rows([row.digest for row in reported]), STRETCH_BYTES)
    logits = np.concatenate([_checked_logits(bundle, reported, positions, views) for positions, views in pieces])
    return TrainedHead(
        bundle=bundle,
        predictions=_predictions(reported, classes, logits),
        out_of_fold=_predictions(training, classes, out_of_fold),
        fitted=fitted,
        learning_curve=curve,
        knn=knn,
        near_duplicates=pairs,
        training_seconds=seconds,
    )


def _checked_logits(
    bundle: Bundle, reported: Sequence[SplitRow], positions: NDArray[np.intp], views: NDArray[np.float32]
) -> Array:
    check_finite([reported[position].digest for position in positions], bundle.layer, views)
    return bundle.logits(views)


def _near_duplicates(
    features: Features, fitted: Fitted, training: Sequence[SplitRow], reported: Sequence[SplitRow], params: Params
) -> list[Pair]:
    """By the deepest layer: it says best whether two photos show the same."""
    deepest, rows = features.spec["layers"][-1], fitted.designs.rows
    ours, theirs = [row.digest for row in training], [row.digest for row in reported]
    if fitted.layer != deepest:
        rows = Rows(features, deepest, ours, rows.folds, params.runtime.memory // ROWS_FRACTION)
    embeddings = (
        ([theirs[position] for position in positions], views.mean(axis=1))
        for positions, views in features.pieces(deepest, features.rows(theirs), STRETCH_BYTES)
    )
    return near_duplicates(embeddings, rows, ours, params.head.duplicate_similarity, params.runtime.num_workers)


def _references(features: Features, fitted: Fitted, training: Sequence[SplitRow], out_of_fold: Array) -> References:
    """Each held-out image is compared with those of other folds, as new images are with all."""
    digests, paths, labels = ([getattr(row, name) for row in training] for name in ("digest", "path", "label"))
    embeddings = features.read(fitted.layer, digests[:MOST_REFERENCES]).mean(axis=1, dtype=np.float32)
    folds, num = fitted.designs.rows.folds[:MOST_REFERENCES], min(len(training), MOST_HELD_OUT)
    similarity = nearest_similarity(embeddings[:num], embeddings, (folds[:num], folds))
    confidence = softmax(out_of_fold[:num], axis=1).max(axis=1)
    return make_references(
        digests, paths, labels, embeddings, np.stack([confidence, similarity], axis=1).astype(np.float32)
    )


def _predictions(rows: Sequence[SplitRow], classes: Sequence[str], logits: Array) -> Predictions:
    digests, paths, labels = (tuple(getattr(row, name) for row in rows) for name in ("digest", "path", "label"))
    return Predictions(digests, paths, labels, classes, logits)
