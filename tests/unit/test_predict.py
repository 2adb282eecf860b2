"""The model: the logits of the training's own path, from any kind of image, at any batch, by any engine."""

import io
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import get_scorer

from stages.core.backbones import build_backbone
from stages.core.errors import BundleError, DataError
from stages.core.sections import BackboneParams
from stages.core.specs import transform_of
from stages.core.views import view_of
from stages.predict import engines
from stages.predict.estimator import BundleClassifier
from stages.predict.explaining import write_gallery
from stages.predict.heatmaps import find_heat_maps
from stages.predict.model import ImageLike, Model, load
from tests.bundles import CLASSES, make_bundle, written


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams) -> dict[str, Path]:
    """A bundle of each track, with two views."""
    root = tmp_path_factory.mktemp("bundles")
    return {track: written(root / track, make_bundle(tiny_backbone, track=track)) for track in ("head", "finetune")}


@pytest.fixture
def model(bundles: dict[str, Path]) -> Model:
    """A model that needs no other file."""
    return load(bundles["finetune"])


def by_hand(backbone: BackboneParams, paths: list[Path]) -> NDArray[np.float64]:
    """Return the logits of the bundles by torch and Pillow alone."""
    bundle, network = make_bundle(backbone), build_backbone(backbone).network
    transform = transform_of(bundle.spec)
    rows = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        pixels = np.stack([view_of(view).pixels(image, transform) for view in bundle.spec["views"]])
        scaled = (pixels / 255 - np.array(transform.mean)) / np.array(transform.std)
        with torch.inference_mode():
            rows.append(network(torch.from_numpy(scaled.transpose(0, 3, 1, 2)).float()).mean(0).numpy())
    return (np.array(rows, dtype=np.float64) @ bundle.weight.T + bundle.bias) / bundle.temperature


@pytest.mark.parametrize("track", ["head", "finetune"])
@pytest.mark.parametrize(("batch", "num_images"), [(None, 1), (2, 1), (7, 1), (None, 10**6)])
def test_logits_are_those_of_the_network_and_the_head(
    bundles: dict[str, Path], tiny_backbone: BackboneParams, photos: Path, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, track: str, batch: int | None, num_images: int,
) -> None:  # fmt: skip
    """Both tracks, any batch, torch or ONNX Runtime: the mean over the views through network, head and temperature."""
    monkeypatch.setattr(engines, "kept_folder", lambda: tmp_path / "engines")
    paths = sorted(photos.rglob("*.*"))
    ready = load(bundles[track], batch=batch, num_images=num_images, weights=tiny_backbone.weights)

    assert np.abs(ready.logits(paths) - by_hand(tiny_backbone, paths)).max() < 1e-4
    assert np.allclose(np.array([one.logits for one in ready.predict(paths)]), ready.logits(paths), atol=1e-12)
    assert len(list((tmp_path / "engines").glob("*.onnx"))) == (num_images > 1)


def test_a_damaged_kept_engine_is_made_anew(
    bundles: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph whose bytes are not those that its name says is not run; a whole one is, without an export."""
    monkeypatch.setattr(engines, "kept_folder", lambda: tmp_path)
    first = load(bundles["finetune"], num_images=10**6).logits([photos / "red" / "1.png"])
    (graph,) = tmp_path.glob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:-10] + b"0123456789")

    assert np.allclose(load(bundles["finetune"], num_images=10**6).logits([photos / "red" / "1.png"]), first, atol=1e-5)
    monkeypatch.setattr("stages.core.engines.graphs.make_graph", None)
    load(bundles["finetune"], num_images=10**6)


def test_all_kinds_of_images_are_taken(model: Model, photos: Path) -> None:
    """Paths, bytes, pictures and arrays of the same photo give the same prediction, named as it was given."""
    path = photos / "red" / "1.png"
    image = Image.open(path)
    found = model.predict([str(path), path, path.read_bytes(), image, np.asarray(image), image.convert("RGBA")])

    assert [one.name for one in found] == [str(path), str(path), "#2", "#3", "#4", "#5"]
    for one in found:
        assert one.logits is not None
        assert found[0].logits is not None
        assert np.allclose(one.logits, found[0].logits, atol=1e-12)  # rows of a matrix product may differ in a bit
        assert one.predicted == CLASSES[int(one.logits.argmax())]
        assert one.confidence == pytest.approx(softmax(one.logits).max())
        assert [label for label, _ in one.top(2)] == [CLASSES[place] for place in np.argsort(-one.logits)[:2]]
        assert sum(value for _, value in one.top(99)) == pytest.approx(1)
    gray = np.asarray(image.convert("L"))
    assert model.predict([gray])[0].logits == pytest.approx(model.predict([np.stack([gray] * 3, -1)])[0].logits)


@pytest.mark.parametrize(
    "odd", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(2, np.uint8), 7]
)
def test_what_is_no_image_is_refused(model: Model, odd: object) -> None:
    """Floats, other shapes and other things are errors that say what was expected: a guess could be a wrong one."""
    with pytest.raises(DataError, match="#0: an? .*expected"):
        model.predict([odd])  # type: ignore[list-item]


def test_bad_images_are_rows_in_their_place(model: Model, photos: Path) -> None:
    """A file that gives no picture has a status and a reason, and the others are predicted as without it."""
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photos / "red" / "1.png").save(turned, "JPEG", exif=exif)
    good: list[ImageLike] = [photos / "red" / "1.png", turned.getvalue()]
    found = model.predict([b"", good[0], photos / "nothing.png", photos, good[1], b"hello"])

    assert [one.status for one in found] == [
        "quarantined", "ok", "quarantined", "quarantined", "repaired", "quarantined"
    ]  # fmt: skip
    assert [one.reason.split(":")[0] for one in found] == [
        "zero bytes", "", "cannot be read", "cannot be read", "EXIF orientation 6",
        "not an image of a known format (BMP, GIF, JPEG, PNG, TIFF, WEBP)",
    ]  # fmt: skip
    assert (found[0].predicted, found[0].confidence, found[0].logits, found[0].top(3)) == ("", None, None, [])
    assert np.allclose(np.array([found[1].logits, found[4].logits]), model.logits(good), atol=1e-12)
    for method in (model.logits, model.embed, model.pixels):
        with pytest.raises(DataError, match="#1: zero bytes"):
            method([good[0], b""])


def test_a_model_is_safe_in_threads(model: Model, photos: Path) -> None:
    """Many threads at once get what one alone gets."""
    paths = sorted(photos.rglob("*.*"))
    expected, found = model.logits(paths), dict[int, NDArray[np.float64]]()
    threads = [
        threading.Thread(target=lambda number=number: found.update({number: model.logits(paths)}))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 6
    assert all(np.allclose(logits, expected, atol=1e-12) for logits in found.values())


def test_nothing_is_predicted_of_nothing(model: Model) -> None:
    """No images give no rows, of the right width."""
    assert model.predict([]) == []
    assert model.embed([]).shape == (0, 2, 96)
    assert model.logits([]).shape == (0, 3)


def test_what_is_not_like_the_training_images_is_unknown(model: Model, photos: Path) -> None:
    """Below either threshold the answer is `unknown`, and the reason says which; a repair is told besides."""
    paths = sorted(photos.rglob("*.*"))
    known = model.bundle.references
    confidence, similarity = known.thresholds(0.3)
    answers = model.predict(paths, coverage=0.3, num_nearest=1)
    plain = model.predict(paths)

    for one, before in zip(answers, plain, strict=True):
        assert one.confidence is not None
        too_unsure, too_far = one.confidence < confidence, one.nearest[0].similarity < similarity
        assert (one.status == "unknown") == (one.predicted == "unknown") == (too_unsure or too_far)
        assert ("not sure enough" in one.reason) == too_unsure
        assert ("unlike all training images" in one.reason) == too_far
        assert one.logits == pytest.approx(before.logits)
    assert {one.status for one in answers} == {"unknown"}  # random references resemble nothing
    nearest = model.predict(paths[:1], num_nearest=3)[0].nearest
    places, similarities = known.nearest(model.embed(paths[:1]), 3)
    assert [(one.path, one.digest, one.label) for one in nearest] == [
        (known.paths[place], known.digests[place], known.labels[place]) for place in places[0]
    ]
    assert [one.similarity for one in nearest] == pytest.approx(similarities[0].tolist())


def test_coverage_that_cannot_be_meant_is_refused(tmp_path: Path, tiny_backbone: BackboneParams, model: Model) -> None:
    """A fraction beyond 0 and 1, and a class of that name, before anything is read."""
    for coverage in (0.0, 1.5, float("nan")):
        with pytest.raises(DataError, match="expected a fraction above 0, up to 1"):
            model.predict([], coverage=coverage)
    folder = written(tmp_path / "b", make_bundle(tiny_backbone, track="finetune", classes=["a", "unknown", "c"]))
    with pytest.raises(DataError, match="a class is called 'unknown' too"):
        load(folder).predict([], coverage=0.9)


def test_weights_are_found_by_their_digest(
    bundles: dict[str, Path], tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head takes its backbone's weights from weights/ or the file that is named; others are refused by name."""
    monkeypatch.chdir(tmp_path)
    digest = tiny_backbone.weights_sha256
    with pytest.raises(BundleError, match=rf"(?s)head: this bundle .*test_resnet with sha256 {digest}.*--weights"):
        load(bundles["head"])
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.pth").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"a\.pth: is not the file that the bundle needs"):
        load(bundles["head"], weights="weights/a.pth")
    shutil.copy(tiny_backbone.weights, tmp_path / "weights" / "b.safetensors")
    load(bundles["head"])


def test_bundles_of_another_making_are_refused(tmp_path: Path, tiny_backbone: BackboneParams) -> None:
    """Another decode policy would give other pixels; tensors of another network do not fit it."""
    bundle = make_bundle(tiny_backbone, track="finetune")
    old = replace(bundle, spec=dict(bundle.spec) | {"decode": "rgb8/0"})
    with pytest.raises(BundleError, match="images decoded by 'rgb8/0'"):
        load(written(tmp_path / "old", old))
    other = replace(bundle, backbone={name: rows for name, rows in bundle.backbone.items() if "layer1" not in name})
    with pytest.raises(BundleError, match="other: the bundle's tensors do not fit timm/test_resnet"):
        load(written(tmp_path / "other", other))
    strange = replace(bundle, spec=dict(bundle.spec) | {"backbone": "resnet1"})
    with pytest.raises(BundleError, match="'resnet1' is not known"):
        load(written(tmp_path / "strange", strange))


def test_the_face_of_scikit_learn(model: Model, photos: Path) -> None:
    """Its scorers take the estimator; paths and embeddings give the same; other shapes are refused."""
    paths = [str(path) for path in sorted(photos.rglob("*.*"))]
    labels = np.array(CLASSES)[np.arange(len(paths)) % 3]
    classifier = BundleClassifier(model).fit(paths, labels)
    expected = softmax(model.logits(paths), axis=1)

    assert classifier.classes_.tolist() == list(CLASSES)
    assert np.allclose(classifier.predict_proba(paths), expected)
    assert np.allclose(classifier.predict_proba(model.embed(paths)), expected)
    assert classifier.decision_function(model.embed(paths)[:, 0]).shape == (12, 3)
    assert classifier.predict(paths).tolist() == [one.predicted for one in model.predict(paths)]
    accuracy = np.mean(classifier.predict(paths) == labels)
    assert get_scorer("accuracy")(classifier, paths, labels) == pytest.approx(accuracy)
    with pytest.raises(DataError, match=r"embeddings have shape \(3, 5\); expected \(N, 96\)"):
        classifier.predict(np.zeros((3, 5)))


@pytest.mark.parametrize("tap", ["last", "layer3"])
def test_a_heat_map_is_the_part_of_each_place_in_the_logit(
    tiny_backbone: BackboneParams, tmp_path: Path, photos: Path, tap: str
) -> None:
    """The map's mean is the embedding, so the head's weights say how much each place adds; the hottest place is 1."""
    bundle = make_bundle(tiny_backbone, track="finetune", views=1, tap=tap)
    ready = load(written(tmp_path / "b", bundle))
    maps = find_heat_maps(bundle, None)
    assert maps is not None
    pixels = ready.pixels([photos / "red" / "1.png"])[0]
    activations = maps.activations(pixels)

    assert np.allclose(activations.mean((1, 2)), ready.embed([photos / "red" / "1.png"])[0, 0], atol=1e-4)
    for column in range(3):
        part = np.tensordot(bundle.weight[column] - bundle.weight.mean(axis=0), activations, 1).clip(min=0)
        heat = maps.of(pixels, column)
        assert heat.shape == (64, 64)
        cell = 64 // part.shape[0]
        middles = heat[cell // 2 :: cell, cell // 2 :: cell]
        assert np.allclose(middles, part / (part.max() or 1), atol=1.5 / cell)  # half a pixel beside the middle


def test_a_network_without_a_map_has_no_heat_map(tiny_backbone: BackboneParams) -> None:
    """Where the embedding is not the mean of a map, nothing is drawn rather than something wrong."""
    bundle = make_bundle(tiny_backbone, track="finetune", views=1)

    assert find_heat_maps(replace(bundle, spec=dict(bundle.spec) | {"pooling": "token"}), None) is None


def test_the_gallery_shows_text_as_text(model: Model, photos: Path, tmp_path: Path) -> None:
    """Names and labels are escaped, training images shown where they are what they were, the same bytes each time."""
    hostile = photos / "<img src=x onerror=alert(1)>.png"
    shutil.copy(photos / "red" / "1.png", hostile)
    images: list[ImageLike] = [hostile, b"", photos / "red" / "1.png"]
    predictions = model.predict(images, num_nearest=2)
    for name in ("a", "b"):
        write_gallery(tmp_path / name, model, images, predictions, photos=photos, weights=None, name="models/x")
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")

    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page
    assert "&lt;b&gt;so&lt;/b&gt;" in page
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["0001.png", "0003.png", "index.html"]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    with pytest.raises(DataError, match="is there already"):
        write_gallery(tmp_path / "a", model, images, predictions, photos=None, weights=None, name="models/x")
