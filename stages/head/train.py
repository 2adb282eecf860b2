"""Train the head: from cached embeddings and labels to a bundle, predictions and diagnostics."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from headstart.base.progress import Progress
from headstart.linear.layer_rows import CHUNK_BYTES, MEMORY_DIVISOR, LayerRows
from headstart.linear.model import Float64Array
from headstart.linear.selection import out_of_fold_logits
from headstart.tables.predictions import Predictions
from headstart.tables.split import SplitRow
from stages.head.fit import FittedHead, fit_head
from stages.head.learning_curve import LearningCurve, learning_curve
from stages.head.neighbours import SimilarPair, knn_accuracies, near_duplicates
from stages.head.params import Params


@dataclass(frozen=True)
class TrainedHead:
    """A trained head with everything that the stage writes.

    Attributes:
        bundle: The classifier.
        predictions: Calibrated logits of every test image.
        out_of_fold: Calibrated logits of every training image, by the model that did not see its fold.
        fitted: How the classifier was chosen.
        dims: Number of values of the embedding of every layer in the features file, by name.
        learning_curve: Learning curve of the chosen layers, by ridge regression.
        knn: Accuracy of nearest neighbours on the chosen layers, by the number of neighbours.
        near_duplicates: Pairs of a test and a training image whose embeddings by the deepest layer are similar.
        training_seconds: Seconds for choosing and fitting the head, without the diagnostics.
    """

    bundle: Bundle
    predictions: Predictions
    out_of_fold: Predictions
    fitted: FittedHead
    dims: Mapping[str, int]
    learning_curve: LearningCurve
    knn: Mapping[int, float]
    near_duplicates: Sequence[SimilarPair]
    training_seconds: float


def train_head(
    features: Features,
    split: Sequence[SplitRow],
    classes: Sequence[str],
    split_sha256: str,
    params: Params,
    *,
    trials_path: Path | None = None,
) -> TrainedHead:
    """Choose and fit the head on the training rows. When everything is chosen, predict the test images.

    Args:
        features: Open features file.
        split: Rows of all images. `test` rows are only predicted; all others are for training and selection.
        classes: (C,) names in the order of the logits.
        split_sha256: Digest of the split table, recorded in the bundle.
        params: Sections `head` and `runtime`.
        trials_path: As for `fit_head`.

    Raises:
        DataError: There are no training or no test rows, or too few training rows for the folds.
        FeatureFileError: An image has no embedding, or its embedding is not finite.
        ParamsError: A layer, a class or the device does not exist.
    """
    training = sorted((row for row in split if row.split != "test"), key=lambda row: row.digest)
    test = sorted((row for row in split if row.split == "test"), key=lambda row: row.digest)
    if not training or not test:
        raise DataError(
            f"data/split.csv: found {len(training)} training and {len(test)} test rows; expected some of each. "
            "Run: dvc repro split"
        )
    # BLAS uses one thread in each of our threads: its own threads would wait for each other in small products, and
    # their number would change the last bits.
    with threadpool_limits(limits=1, user_api="blas"):
        start = time.monotonic()
        fitted = fit_head(features, training, classes, params, trials_path)
        seconds = time.monotonic() - start
        with Progress("diagnostics", 3, "table") as progress:
            curve = learning_curve(fitted.designs, fitted.ridge_c, params.head.seed)
            progress.advance(1)
            knn = knn_accuracies(fitted.designs, params.head.seed)
            progress.advance(1)
            pairs = _near_duplicates(features, fitted, training, test, params)
            progress.advance(1)
    out_of_fold = out_of_fold_logits(fitted.designs, fitted.fold_models) / np.float64(fitted.score.temperature)
    bundle = Bundle(
        track="head",
        classes=classes,
        spec=features.spec,
        layers=fitted.layers,
        dims=[features.dim(layer) for layer in fitted.layers],
        temperature=fitted.score.temperature,
        trained_on={
            "features": fingerprint(features.spec),
            "split_sha256": split_sha256,
            "num_images": len(training),
        },
        weight=fitted.model.weight.astype(np.float32),
        bias=fitted.model.bias.astype(np.float32),
        references=_references(features, fitted, training, out_of_fold),
    )
    pieces = features.pieces(fitted.layers, features.rows([row.digest for row in test]), CHUNK_BYTES)
    logits = np.concatenate([_checked_logits(bundle, test, positions, views) for positions, views in pieces])
    return TrainedHead(
        bundle=bundle,
        predictions=_predictions(test, classes, logits),
        out_of_fold=_predictions(training, classes, out_of_fold),
        fitted=fitted,
        dims={layer: features.dim(layer) for layer in features.spec["layers"]},
        learning_curve=curve,
        knn=knn,
        near_duplicates=pairs,
        training_seconds=seconds,
    )


def _checked_logits(
    bundle: Bundle, rows: Sequence[SplitRow], positions: NDArray[np.intp], views: NDArray[np.float32]
) -> Float64Array:
    check_finite([rows[position].digest for position in positions], " + ".join(bundle.layers), views)
    return bundle.logits(views)


def _near_duplicates(
    features: Features, fitted: FittedHead, training: Sequence[SplitRow], test: Sequence[SplitRow], params: Params
) -> list[SimilarPair]:
    """Compare embeddings of the deepest layer, which shows best whether two photos have the same subject."""
    deepest, rows = features.spec["layers"][-1], fitted.designs.rows
    training_digests, test_digests = [row.digest for row in training], [row.digest for row in test]
    if fitted.layers != (deepest,):
        rows = LayerRows(features, [deepest], training_digests, rows.folds, params.runtime.memory // MEMORY_DIVISOR)
    embeddings = (
        ([test_digests[position] for position in positions], views.mean(axis=1))
        for positions, views in features.pieces([deepest], features.rows(test_digests), CHUNK_BYTES)
    )
    similarity, num_threads = params.head.duplicate_similarity, params.runtime.num_workers
    return near_duplicates(embeddings, rows, training_digests, similarity, num_threads)


def _references(
    features: Features, fitted: FittedHead, training: Sequence[SplitRow], out_of_fold: Float64Array
) -> References:
    """Return training images as references.

    Their held-out similarities compare each of them with the images of the other folds only, as a new image is compared
    with images that the head was trained on.
    """
    digests, paths, labels = ([getattr(row, name) for row in training] for name in ("digest", "path", "label"))
    dims = [features.dim(layer) for layer in fitted.layers]
    pieces = features.pieces(fitted.layers, features.rows(digests[:MOST_REFERENCES]), CHUNK_BYTES)
    embeddings = np.concatenate([views.mean(axis=1, dtype=np.float32) for _, views in pieces])
    folds, num = fitted.designs.rows.folds[:MOST_REFERENCES], min(len(training), MOST_HELD_OUT)
    similarity = nearest_similarity(embeddings[:num], embeddings, dims, (folds[:num], folds))
    confidence = softmax(out_of_fold[:num], axis=1).max(axis=1)
    held_out = np.stack([confidence, similarity], axis=1).astype(np.float32)
    return make_references(digests, paths, labels, embeddings, held_out, dims=dims)


def _predictions(rows: Sequence[SplitRow], classes: Sequence[str], logits: Float64Array) -> Predictions:
    digests, paths, labels = (tuple(getattr(row, name) for row in rows) for name in ("digest", "path", "label"))
    return Predictions(digests, paths, labels, classes, logits)
