"""The head: scikit-learn's solution with the standardisation folded in, chosen on training rows only."""

import hashlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from stages.core.bundle import write_bundle
from stages.core.errors import DataError, FeatureFileError
from stages.core.features import create_features, open_features
from stages.core.tables import SplitRow
from stages.head.params import HeadParams
from stages.head.probe import fit_probe
from stages.head.train import TrainedHead, train_head

PARAMS = HeadParams(c="auto", c_grid=[0.001, 0.01, 0.1], folds=3, max_iter=1000, seed=0)
SPEC: dict[str, Any] = {"backbone": "tiny", "taps": ["last"], "views": ["center"], "precision": "float32"}


def blobs(num_classes: int, seed: int = 0) -> tuple[NDArray[np.float32], list[str]]:
    """Return 90 rows of overlapping clusters, far from standardised, and their labels."""
    random = np.random.default_rng(seed)
    targets = np.arange(90) % num_classes
    centres = random.normal(size=(num_classes, 6))
    rows = (centres[targets] + random.normal(size=(90, 6))) * [1, 10, 100, 0.1, 1, 1] + 50
    return rows.astype(np.float32), [f"class {target}" for target in targets]


def write_features(path: Path, rows: NDArray[np.float32]) -> list[str]:
    """Write rows as a features file, in the order of made-up digests; return the digests in the order of the rows."""
    digests = [hashlib.sha256(bytes([number])).hexdigest() for number in range(len(rows))]
    order = np.argsort(digests)
    with create_features(path, sorted(digests), SPEC, {"last": rows.shape[1]}) as writer:
        writer.append("last", rows[order][:, None])
    return digests


def train(folder: Path, rows: NDArray[np.float32], labels: list[str], params: HeadParams = PARAMS) -> TrainedHead:
    """Train on the first 60 rows, report on the other 30."""
    digests = write_features(folder / "f.h5", rows)
    split = [
        SplitRow(digest, f"{label}/{digest[:8]}.png", label, "train" if position < 60 else "test", digest)
        for position, (digest, label) in enumerate(zip(digests, labels, strict=True))
    ]
    with open_features(folder / "f.h5") as features:
        return train_head(features, split, sorted(set(labels)), "0" * 64, params)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_probabilities_equal_scikit_learns(num_classes: int) -> None:
    """On raw embeddings the folded weights give the probabilities of scikit-learn's classifier on scaled ones."""
    rows, labels = blobs(num_classes)
    classes = sorted(set(labels))
    probe = fit_probe(rows, labels, classes, PARAMS.model_copy(update={"c": 0.1}))
    variance = rows.astype(np.float64).var(axis=0)
    scaled = (rows - rows.mean(axis=0, dtype=np.float64)) / np.sqrt(variance + np.median(variance))
    oracle = LogisticRegression(C=0.1, max_iter=1000).fit(scaled, labels)
    logits = rows.astype(np.float64) @ probe.weight.T + probe.bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    assert np.abs(probabilities - oracle.predict_proba(scaled)).max() < 1e-3
    assert probe.converged


def test_the_strength_with_the_best_held_out_loss_wins() -> None:
    """On noise a stronger regularisation wins than on clean clusters, and the score is of held-out rows."""
    rows, labels = blobs(3)
    noise = np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
    clean = np.array([[float(label[-1] == str(column)) for column in range(3)] for label in labels], dtype=np.float32)
    classes = sorted(set(labels))
    params = PARAMS.model_copy(update={"c_grid": [10.0, 0.001, 0.1]})
    guess, sure = fit_probe(noise, labels, classes, params), fit_probe(clean, labels, classes, params)

    assert guess.c < sure.c == 10.0
    assert guess.cv_accuracy is not None
    assert guess.cv_accuracy < 0.6
    assert sure.cv_accuracy == 1.0


def test_a_small_class_does_not_stop_the_cross_validation() -> None:
    """A class with fewer training images than folds, but two, is trained and scored like any other."""
    rows, labels = blobs(3)
    kept = [*[position for position in range(90) if labels[position] != "class 2"][:58], 2, 5]
    probe = fit_probe(rows[kept], [labels[position] for position in kept], sorted(set(labels)), PARAMS)

    assert probe.weight.shape == (3, 6)
    assert probe.cv_accuracy is not None


def test_a_column_that_never_changes_does_no_harm() -> None:
    """A constant embedding column, of zero variance, leaves everything finite and the others' weights as they were."""
    rows, labels = blobs(3)
    classes = sorted(set(labels))
    with_constant = np.concatenate([rows, np.full((90, 1), 7, dtype=np.float32)], axis=1)
    params = PARAMS.model_copy(update={"c": 0.1})
    plain, wide = fit_probe(rows, labels, classes, params), fit_probe(with_constant, labels, classes, params)

    assert np.allclose(plain.weight, wide.weight[:, :6], atol=1e-5)
    assert np.abs(wide.weight[:, 6]).max() < 1e-6


def test_a_column_that_is_nearly_always_zero_cannot_dominate() -> None:
    """A held-out image that excites a column unseen in training gets a large logit at most, not an absurd one."""
    rows, labels = blobs(3)
    rare = np.zeros((90, 1), dtype=np.float32)
    rare[0] = 0.01
    rows = np.concatenate([rows, rare], axis=1)
    probe = fit_probe(rows, labels, sorted(set(labels)), PARAMS)
    usual = rows @ probe.weight.T + probe.bias
    rows[:, 6] = 1.0
    excited = rows @ probe.weight.T + probe.bias

    assert np.abs(excited - usual).max() < 1


def test_the_reported_rows_reach_no_choice(tmp_path: Path) -> None:
    """With labels and features of the reported rows scrambled, the bundle is the same, byte for byte."""
    rows, labels = blobs(3)
    scrambled = rows.copy()
    scrambled[60:] = np.random.default_rng(5).normal(size=(30, 6)) * 1000
    relabelled = [*labels[:60], *labels[60:][::-1]]
    for name, (some_rows, some_labels) in {"a": (rows, labels), "b": (scrambled, relabelled)}.items():
        (tmp_path / name).mkdir()
        write_bundle(tmp_path / name / "bundle", train(tmp_path / name, some_rows, some_labels).bundle)

    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a/bundle" / file).read_bytes() == (tmp_path / "b/bundle" / file).read_bytes()


def test_predictions_are_the_bundles_logits_of_the_reported_rows(tmp_path: Path) -> None:
    """Predictions cover exactly the reported images, each with its own label and the bundle's logits."""
    rows, labels = blobs(3)
    trained = train(tmp_path, rows, labels)
    predictions = trained.predictions

    assert list(predictions.labels) == labels[60:]
    assert np.allclose(predictions.logits, trained.bundle.logits(rows[60:, None]))
    accuracy = np.mean([label == guess for label, guess in zip(labels[60:], predictions.predicted, strict=True)])
    assert accuracy > 0.6
    assert trained.bundle.trained_on["num_images"] == 60


def test_validation_rows_are_for_training() -> None:
    """Rows of a given `val` split are trained on, never reported."""
    rows, labels = blobs(2)
    trained: dict[str, Any] = {}
    for split_name in ("train", "val"):
        with TemporaryDirectory() as folder:
            digests = write_features(Path(folder) / "f.h5", rows)
            split = [
                SplitRow(
                    digest, "p", label, "test" if position >= 60 else split_name if position < 20 else "train", "g"
                )
                for position, (digest, label) in enumerate(zip(digests, labels, strict=True))
            ]
            with open_features(Path(folder) / "f.h5") as features:
                trained[split_name] = train_head(features, split, sorted(set(labels)), "0" * 64, PARAMS)

    assert np.array_equal(trained["train"].bundle.weight, trained["val"].bundle.weight)


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    """Too few images for the folds, a class without any, and an image without an embedding are each named."""
    rows, labels = blobs(3)
    classes = sorted(set(labels))
    with pytest.raises(DataError, match=r"classes have one training image only: \['class 2'\]"):
        fit_probe(rows[:5], labels[:5], classes, PARAMS)
    with pytest.raises(DataError, match=r"head\.folds: found 3, but no class has more than 2 training images"):
        fit_probe(rows[:6], labels[:6], classes, PARAMS)
    with pytest.raises(DataError, match=r"classes without a training image: \['ghost'\]"):
        fit_probe(rows, labels, ["ghost", *classes], PARAMS)
    digests = write_features(tmp_path / "f.h5", rows)
    split = [SplitRow(digest, "p", label, "train", "g") for digest, label in zip(digests, labels, strict=True)]
    with open_features(tmp_path / "f.h5") as features:
        with pytest.raises(DataError, match="90 training and 0 reported rows"):
            train_head(features, split, classes, "0" * 64, PARAMS)
        split[0] = replace(split[0], digest="f" * 64, split="test")
        with pytest.raises(FeatureFileError, match="no row for 1 of 1 images"):
            train_head(features, split, classes, "0" * 64, PARAMS)


def test_a_fit_that_does_not_converge_is_told() -> None:
    """Too few iterations are noticed, not passed over."""
    rows, labels = blobs(3)

    assert not fit_probe(
        rows, labels, sorted(set(labels)), PARAMS.model_copy(update={"c": 0.1, "max_iter": 2})
    ).converged
