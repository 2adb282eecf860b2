"""Training the head: what it chooses, that the test rows and the order of rows play no part, and its diagnostics."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ruamel.yaml import YAML
from scipy.special import softmax

from headstart.artifacts.bundle import write_bundle
from headstart.artifacts.features import open_features
from headstart.base.errors import DataError, FeatureFileError, ParamsError
from headstart.linear.on_gpu import OnGpu
from headstart.tables.head import LabelSuspect, LayerScore, LearningPoint, NearDuplicate
from headstart.tables.rows import read_rows, write_rows
from headstart.tables.split import SplitRow
from stages.head import results
from stages.head.params import Params
from stages.head.train import TrainedHead, train_head
from tests.support.head_data import digests_of, write_features
from tests.support.source import ROOT

NUM, NUM_TRAINING = 150, 110
Layers = dict[str, NDArray[np.float32]]


def head_params(*, memory: int = 2**30, **changes: Any) -> Params:
    """Return the shipped params with three folds and with changes of the section `head`."""
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return Params(
        head=content["head"] | {"folds": 3, "c_grid": [0.001, 0.1, 10.0]} | changes,
        runtime=content["runtime"] | {"workers": 2, "memory": memory},
    )


def blobs(num_classes: int = 3, seed: int = 0) -> tuple[Layers, list[str]]:
    """Return rows of two layers, the first much clearer than the second, and their labels."""
    random = np.random.default_rng(seed)
    classes = random.permutation(np.arange(NUM) % num_classes)
    centres = random.normal(size=(num_classes, 8))
    clear = (centres[classes] * 1.5 + random.normal(size=(NUM, 8))) * np.geomspace(0.1, 10, 8) + 5
    vague = random.normal(size=(NUM, 20)) + 0.3 * np.eye(num_classes, 20)[classes]
    return {"middle": clear.astype(np.float32), "last": vague.astype(np.float32)}, [f"class {n}" for n in classes]


def train(
    folder: Path,
    embeddings: Layers,
    labels: list[str],
    *,
    order: NDArray[np.int64] | None = None,
    classes: list[str] | None = None,
    trials: Path | None = None,
    **changes: Any,
) -> TrainedHead:
    """Train on the first rows and predict the others. The rows of the split come in `order`."""
    folder.mkdir(exist_ok=True)
    digests = digests_of(NUM)
    write_features(folder / "f.h5", digests, embeddings)
    split = [
        SplitRow(digest, f"{label}/{digest[:8]}.png", label, "train" if position < NUM_TRAINING else "test", digest)
        for position, (digest, label) in enumerate(zip(digests, labels, strict=True))
    ]
    split = split if order is None else [split[position] for position in order]
    with open_features(folder / "f.h5") as features:
        return train_head(
            features, split, classes or sorted(set(labels)), "0" * 64, head_params(**changes), trials_path=trials
        )


def bundle_bytes(folder: Path, trained: TrainedHead) -> list[bytes]:
    """Write a bundle and return the bytes of its files."""
    write_bundle(folder / "bundle", trained.bundle)
    return [(folder / "bundle" / name).read_bytes() for name in ("config.json", "model.safetensors")]


def heavy_tails() -> tuple[Layers, list[str]]:
    """Return rows like those of `blobs` of which one class has a few rows that lie far out."""
    layers, labels = blobs()
    random, mine = np.random.default_rng(1), np.array([label == "class 0" for label in labels])
    far = random.exponential(size=(mine.sum(), 1)) * [30, 30, -30, 30, -30, 30, -30, 30]
    layers["middle"][mine] += far.astype(np.float32)
    return layers, labels


@pytest.mark.parametrize("kind", ["auto", "logistic", "ridge", "sgd"])
def test_every_kind_finds_the_clearer_layer_and_predicts(tmp_path: Path, kind: str) -> None:
    """The layer that tells the classes apart is chosen, and its bundle predicts the test rows well."""
    layers, labels = blobs()
    trained = train(tmp_path, layers, labels, kind=kind)
    predictions = trained.predictions
    hits = [label == guess for label, guess in zip(labels[NUM_TRAINING:], predictions.predicted, strict=True)]

    assert trained.bundle.layers == ("middle",)
    assert trained.fitted.layer_scores["middle",].log_loss < trained.fitted.layer_scores["last",].log_loss
    assert np.mean(hits) > 0.85
    assert list(predictions.digests) == digests_of(NUM)[NUM_TRAINING:]
    assert np.allclose(predictions.logits, trained.bundle.logits(layers["middle"][NUM_TRAINING:, None]))
    assert abs(np.mean(hits) - trained.fitted.score.accuracy) < 0.15
    assert trained.bundle.trained_on["num_images"] == NUM_TRAINING


@pytest.mark.parametrize(
    ("device", "large", "used"), [("mps", True, "cpu"), ("cuda:0", True, "cuda:0"), ("cuda:0", False, "cpu")]
)
def test_large_problems_use_a_gpu_with_float64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, large: bool, used: str
) -> None:
    """Only CUDA devices are used, with repeatable kernels, and only for large problems. Apple's have no float64."""
    devices: set[str] = set()
    repeatable: list[bool] = []

    def upload(*given: Any) -> OnGpu:
        devices.add(given[-1])
        return OnGpu()

    monkeypatch.setattr("stages.head.fit.choose_device", lambda _: device)
    monkeypatch.setattr("stages.head.fit.make_repeatable", lambda: repeatable.append(True))
    monkeypatch.setattr("headstart.linear.design._LARGE", 0 if large else 10**9)
    monkeypatch.setattr(OnGpu, "upload", upload)
    train(tmp_path, *blobs())

    assert devices == {used}
    assert bool(repeatable) == (used != "cpu")


@pytest.mark.parametrize(("data", "best"), [(blobs, "ridge"), (heavy_tails, "logistic")])
def test_auto_is_the_kind_with_the_lower_log_loss(
    tmp_path: Path, data: Callable[[], tuple[Layers, list[str]]], best: str
) -> None:
    """Round classes get ridge regression, a class with heavy tails logistic regression: the head is that kind's."""
    layers, labels = data()
    kinds = {kind: train(tmp_path, layers, labels, kind=kind) for kind in ("auto", "logistic", "ridge")}
    losses = {kind: kinds[kind].fitted.score.log_loss for kind in ("logistic", "ridge")}

    assert kinds["auto"].fitted.kind == best == min(losses, key=lambda kind: losses[kind])
    assert results.numbers(kinds["auto"])["kind"] == best
    assert f"3 classes: {best} on layer middle" in results.summary(kinds["auto"])
    assert np.array_equal(kinds["auto"].bundle.weight, kinds[best].bundle.weight)
    assert kinds["auto"].bundle.temperature == kinds[best].bundle.temperature
    assert np.array_equal(kinds["auto"].out_of_fold.logits, kinds[best].out_of_fold.logits)


def test_a_strength_that_is_given_is_that_of_logistic_regression(tmp_path: Path) -> None:
    """With a number for `c`, kind auto is logistic regression with this `c`."""
    layers, labels = blobs()
    auto, logistic = (train(tmp_path, layers, labels, kind=kind, c=0.3) for kind in ("auto", "logistic"))

    assert (auto.fitted.kind, auto.fitted.score.c) == ("logistic", 0.3)
    assert np.array_equal(auto.bundle.weight, logistic.bundle.weight)


@pytest.mark.parametrize("kind", ["auto", "logistic", "ridge", "sgd"])
def test_the_test_rows_reach_no_fit_and_no_choice(tmp_path: Path, kind: str) -> None:
    """If labels and features of the test rows are scrambled, the bundle stays the same, byte for byte."""
    layers, labels = blobs()
    scrambled = {name: rows.copy() for name, rows in layers.items()}
    for rows in scrambled.values():
        rows[NUM_TRAINING:] = np.random.default_rng(5).normal(size=rows[NUM_TRAINING:].shape) * 1000
    relabelled = [*labels[:NUM_TRAINING], *labels[NUM_TRAINING:][::-1]]
    one, other = (
        train(tmp_path / "a", layers, labels, kind=kind),
        train(tmp_path / "b", scrambled, relabelled, kind=kind),
    )

    assert bundle_bytes(tmp_path / "a", one) == bundle_bytes(tmp_path / "b", other)
    assert np.array_equal(one.out_of_fold.logits, other.out_of_fold.logits)
    assert not np.array_equal(one.predictions.logits, other.predictions.logits)


def test_the_order_of_rows_and_classes_does_not_matter(tmp_path: Path) -> None:
    """Rows in another order give the same bytes. Classes in another order give the same probabilities by name."""
    layers, labels = blobs()
    plain = train(tmp_path / "a", layers, labels)
    shuffled = train(tmp_path / "b", layers, labels, order=np.random.default_rng(0).permutation(NUM))
    turned = train(tmp_path / "c", layers, labels, classes=["class 2", "class 0", "class 1"])

    assert bundle_bytes(tmp_path / "a", plain) == bundle_bytes(tmp_path / "b", shuffled)
    mine, theirs = (softmax(trained.predictions.logits, axis=1) for trained in (plain, turned))
    assert np.allclose(mine, theirs[:, [1, 2, 0]], atol=1e-4)
    assert plain.fitted.score.c == turned.fitted.score.c


def test_rows_that_do_not_fit_into_memory_give_the_same_head(tmp_path: Path) -> None:
    """If the features need far more memory than allowed, rows are read repeatedly, and the result is the same."""
    layers, labels = blobs()
    kept = train(tmp_path / "a", layers, labels)
    read_again = train(tmp_path / "b", layers, labels, memory=64 * 2**20)
    tiny = Params.model_construct(
        head=head_params().head, runtime=head_params().runtime.model_copy(update={"memory": 16})
    )
    with open_features(tmp_path / "a" / "f.h5") as features:
        split = [
            SplitRow(digest, "p", label, "train" if position < NUM_TRAINING else "test", digest)
            for position, (digest, label) in enumerate(zip(digests_of(NUM), labels, strict=True))
        ]
        streamed = train_head(features, split, sorted(set(labels)), "0" * 64, tiny)

    assert bundle_bytes(tmp_path / "a", kept) == bundle_bytes(tmp_path / "b", read_again)
    assert np.array_equal(kept.bundle.weight, streamed.bundle.weight)
    assert np.array_equal(kept.out_of_fold.logits, streamed.out_of_fold.logits)


def test_out_of_fold_logits_cover_the_training_rows_and_do_not_know_their_labels(tmp_path: Path) -> None:
    """The logits of each training row come from a fit that never saw it: on noise they are no better than chance."""
    layers, labels = blobs()
    noise = {"last": np.random.default_rng(3).normal(size=(NUM, 200)).astype(np.float32)}
    trained = train(tmp_path / "a", layers, labels)
    guessing = train(tmp_path / "b", noise, labels)

    assert list(trained.out_of_fold.digests) == digests_of(NUM)[:NUM_TRAINING]
    assert list(trained.out_of_fold.labels) == labels[:NUM_TRAINING]
    assert trained.fitted.score.accuracy > 0.85
    assert guessing.fitted.score.accuracy < 0.5
    confidence = softmax(guessing.out_of_fold.logits, axis=1).max(axis=1).mean()
    assert confidence < 0.55  # it is calibrated: the confidence is near chance too


def test_views_are_averaged(tmp_path: Path) -> None:
    """Rows with several views train and score like the mean of their views."""
    layers, labels = blobs()
    wobble = np.random.default_rng(0).normal(size=(NUM, 1, 8)).astype(np.float32) * 0.1
    views = np.concatenate([layers["middle"][:, None] + wobble, layers["middle"][:, None] - wobble], axis=1)
    several = train(tmp_path / "a", {"middle": views}, labels)
    mean = train(tmp_path / "b", {"middle": views.mean(axis=1)}, labels)

    assert np.allclose(several.bundle.weight, mean.bundle.weight, rtol=1e-4, atol=1e-6)
    assert np.allclose(several.predictions.logits, several.bundle.logits(views[NUM_TRAINING:]))


def test_validation_rows_are_for_training(tmp_path: Path) -> None:
    """Rows of a given `val` split are trained on and not predicted."""
    layers, labels = blobs()
    write_features(tmp_path / "f.h5", digests_of(NUM), layers)
    weights = []
    for name in ("train", "val"):
        split = [
            SplitRow(digest, "p", label, "test" if position >= 60 else name if position < 20 else "train", digest)
            for position, (digest, label) in enumerate(zip(digests_of(NUM), labels, strict=True))
        ]
        with open_features(tmp_path / "f.h5") as features:
            weights.append(train_head(features, split, sorted(set(labels)), "0" * 64, head_params()).bundle.weight)

    assert np.array_equal(weights[0], weights[1])


def test_a_strength_that_is_given_is_taken(tmp_path: Path) -> None:
    """Logistic and ridge regression fit with the given `c`, and weaker regularisation gives larger weights."""
    layers, labels = blobs()
    for kind in ("logistic", "ridge"):
        weak, strong = (train(tmp_path, layers, labels, kind=kind, c=c) for c in (1.0, 0.001))
        assert (weak.fitted.score.c, strong.fitted.score.c) == (1.0, 0.001)
        assert np.linalg.norm(weak.bundle.weight) > np.linalg.norm(strong.bundle.weight)


def test_class_weights_move_the_predictions(tmp_path: Path) -> None:
    """A class with a larger weight is predicted more often, and balanced weights find more of a rare class."""
    random = np.random.default_rng(0)
    rare = random.random(NUM) < 0.12
    layers = {"last": (random.normal(size=(NUM, 6)) + 1.2 * rare[:, None]).astype(np.float32)}
    labels = ["rare" if is_rare else "usual" for is_rare in rare]
    found = {}
    for name, weights in {"none": "none", "balanced": "balanced", "table": {"rare": 30.0}}.items():
        predictions = train(tmp_path, layers, labels, class_weights=weights, c=0.1).predictions
        found[name] = predictions.predicted.count("rare")

    assert found["none"] < found["balanced"] <= found["table"]
    with pytest.raises(ParamsError, match=r"head\.class_weights: found \['ghost'\]; expected some of the classes"):
        train(tmp_path, layers, labels, class_weights={"ghost": 1.0})


def test_a_class_without_training_rows_stays_in_the_bundle(tmp_path: Path) -> None:
    """A class that is in the list of classes but has no image has its place in the logits and is improbable."""
    layers, labels = blobs()
    trained = train(tmp_path, layers, labels, classes=["absent", "class 0", "class 1", "class 2"])

    assert trained.bundle.weight.shape == (4, 8)
    assert np.isfinite(trained.predictions.logits).all()
    assert np.median(softmax(trained.predictions.logits, axis=1)[:, 0]) < 0.02
    assert "absent" not in trained.predictions.predicted


def test_a_class_with_one_image_is_trained(tmp_path: Path) -> None:
    """A class with a single training image is trained and scored like any other class, with finite numbers."""
    layers, labels = blobs()
    trained = train(tmp_path, layers, ["lonely", *labels[1:]])

    assert np.isfinite(trained.out_of_fold.logits).all()
    assert np.isfinite(trained.fitted.score.log_loss)


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    """Each error names its cause: no test rows, no embedding, an unknown layer, too many folds, a NaN, c with sgd."""
    layers, labels = blobs()
    classes = sorted(set(labels))
    write_features(tmp_path / "f.h5", digests_of(NUM), layers)
    split = [
        SplitRow(digest, "p", label, "train", digest) for digest, label in zip(digests_of(NUM), labels, strict=True)
    ]
    with open_features(tmp_path / "f.h5") as features:
        with pytest.raises(DataError, match="150 training and 0 test rows"):
            train_head(features, split, classes, "0" * 64, head_params())
        split[0] = replace(split[0], digest="f" * 64, split="test")
        with pytest.raises(FeatureFileError, match="no row for 1 of 1 images"):
            train_head(features, split, classes, "0" * 64, head_params())
    with pytest.raises(
        ParamsError, match=r"head\.layers: found \['midle'\]; expected auto, all or some of \['middle', 'last'\]"
    ):
        train(tmp_path, layers, labels, layers=["midle", "last"])
    with pytest.raises(DataError, match=r"head\.folds: found 20, but no class has more than \d+ training images"):
        train(tmp_path, layers, [f"class {number // 8}" for number in range(NUM)], folds=20)
    layers["last"][7, 3] = np.nan
    with pytest.raises(FeatureFileError, match=rf"layer 'last', column 3: the embedding of image {digests_of(NUM)[7]}"):
        train(tmp_path, layers, labels)
    with pytest.raises(ValueError, match="c to be auto when kind is sgd"):
        head_params(kind="sgd", c=0.1)


def test_the_diagnostics_are_tables(tmp_path: Path) -> None:
    """Layer scores, learning curve, label suspects and near-duplicates are tables; a wrong label is suspect first."""
    layers, labels = blobs()
    surest = int(np.argmax(_own_probabilities(train(tmp_path, layers, labels))))
    wrong = labels.copy()
    wrong[surest] = next(name for name in sorted(set(labels)) if name != labels[surest])
    layers["last"][NUM - 1] = layers["last"][4]
    trained = train(tmp_path, layers, wrong)
    split = [
        SplitRow(digest, f"{digest[:4]}.png", label, "train", digest)
        for digest, label in zip(digests_of(NUM), wrong, strict=True)
    ]
    scores = results.layer_scores(trained)
    learning = trained.learning_curve.points
    suspects = results.label_suspects(trained.out_of_fold)
    alike = results.named_pairs(trained.near_duplicates, split)
    tables: list[tuple[Sequence[Any], type[Any]]] = [
        (scores, LayerScore),
        (learning, LearningPoint),
        (suspects, LabelSuspect),
        (alike, NearDuplicate),
    ]
    for table, kind in tables:
        write_rows(tmp_path / "rows.csv", table, kind)
        assert len(read_rows(tmp_path / "rows.csv", kind)) == len(table)

    assert [(row.layers, row.chosen) for row in scores] == [("middle", 1), ("last", 0), ("middle + last", 0)]
    assert [(row.num_layers, row.num_columns) for row in scores] == [(1, 8), (1, 20), (2, 28)]
    assert all(row.accuracy_low <= row.accuracy <= row.accuracy_high for row in scores)
    assert all(row.accuracy_low <= row.accuracy <= row.accuracy_high for row in learning)
    assert len(learning) >= 6
    assert (suspects[0].digest, suspects[0].preferred) == (digests_of(NUM)[surest], labels[surest])
    assert [row.probability for row in suspects] == sorted(row.probability for row in suspects)
    assert len(suspects) == round((1 - trained.fitted.score.accuracy) * NUM_TRAINING)
    (pair,) = alike
    assert (pair.digest, pair.training_digest) == (digests_of(NUM)[NUM - 1], digests_of(NUM)[4])
    assert pair.similarity == pytest.approx(1)
    assert {"doubling_gain", "doubling_gain_low", "doubling_gain_high"} <= set(results.numbers(trained))


def _own_probabilities(trained: TrainedHead) -> NDArray[np.float64]:
    classes = list(trained.out_of_fold.classes)
    own = [classes.index(label) for label in trained.out_of_fold.labels]
    probabilities: NDArray[np.float64] = softmax(trained.out_of_fold.logits, axis=1)
    return probabilities[np.arange(len(own)), own]


def test_the_numbers_say_what_was_chosen(tmp_path: Path) -> None:
    """The numbers name the layers, the strength if there is one, the temperature and the cross-validated scores."""
    layers, labels = blobs()
    numbers = results.numbers(train(tmp_path, layers, labels))

    assert (numbers["layers"], numbers["c"]) == ("middle", numbers["c"])
    assert {"temperature", "cv_accuracy", "cv_log_loss", "knn_1_accuracy", "knn_5_accuracy"} <= set(numbers)
    assert "c" not in results.numbers(train(tmp_path, layers, labels, kind="sgd"))
