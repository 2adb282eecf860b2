"""The model: the logits of the training's own path, from any kind of image, at any batch, by any engine."""

import io
import pickle
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from sklearn.base import clone
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.model_selection import cross_val_score

from headstart.backbone.build import build_backbone
from headstart.backbone.params import BackboneParams
from headstart.backbone.spec import transform_of
from headstart.backbone.weights import PACKAGED
from headstart.base.errors import BundleError, DataError, ParamsError
from headstart.base.files import sha256_file
from headstart.imaging.transform import view_of
from headstart.predict import engine as engines
from headstart.predict import image_like
from headstart.predict.estimator import BundleClassifier
from headstart.predict.gallery import write_gallery
from headstart.predict.heat_maps import HeatMaps, find_heat_maps
from headstart.predict.image_like import ImageLike
from headstart.predict.inputs import LoadedImage
from headstart.predict.model import Model, load
from headstart.predict.network import find_backbone
from headstart.predict.pages import thumbnail
from headstart.predict.prediction import apply_thresholds
from tests.support.bundles import CLASSES, make_bundle, written


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
    monkeypatch.setattr(engines, "user_folder", lambda: tmp_path / "engines")
    paths = sorted(photos.rglob("*.*"))
    ready = load(bundles[track], batch=batch, num_images=num_images, weights=tiny_backbone.weights)

    assert np.abs(ready.logits(paths) - by_hand(tiny_backbone, paths)).max() < 1e-4
    assert np.allclose(np.array([one.logits for one in ready.predict(paths)]), ready.logits(paths), atol=1e-12)
    assert len(list((tmp_path / "engines").glob("*.onnx"))) == (num_images > 1)


def test_a_damaged_kept_engine_is_made_anew(
    bundles: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph whose bytes are not those that its name says is not run; a whole one is, without an export."""
    monkeypatch.setattr(engines, "user_folder", lambda: tmp_path)
    first = load(bundles["finetune"], num_images=10**6).logits([photos / "red" / "1.png"])
    (graph,) = tmp_path.glob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:-10] + b"0123456789")

    assert np.allclose(load(bundles["finetune"], num_images=10**6).logits([photos / "red" / "1.png"]), first, atol=1e-5)
    monkeypatch.setattr("headstart.engines.export.make_graph", None)
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
    with pytest.raises(DataError, match="#0: found an .*expected"):
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
    with pytest.raises(DataError, match="a class has the name 'unknown'"):
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
    with pytest.raises(BundleError, match=r"a\.pth: has sha256 \w{64}; expected the weights of"):
        load(bundles["head"], weights="weights/a.pth")
    with pytest.raises(BundleError, match=r"none\.pth: there is no such file; expected the weights of"):
        load(bundles["head"], weights="none.pth")
    shutil.copy(tiny_backbone.weights, tmp_path / "weights" / "b.safetensors")
    load(bundles["head"])
    packaged = {"backbone": PACKAGED, "weights_sha256": "0" * 64, "pooling": "mean"}
    with pytest.raises(BundleError, match="The weights that are published now have sha256"):
        find_backbone(packaged, "last", None)


def test_a_fine_tuned_model_predicts_in_full_precision(
    tiny_backbone: BackboneParams, tmp_path: Path, photos: Path
) -> None:
    """What the cached embeddings were rounded to is the head's affair: it was trained on those."""
    paths = sorted(photos.rglob("*.*"))
    error = {}
    for track in ("head", "finetune"):
        bundle = make_bundle(tiny_backbone, track=track)
        half = replace(bundle, spec=dict(bundle.spec) | {"precision": "float16"})
        logits = load(written(tmp_path / track, half), weights=tiny_backbone.weights).logits(paths)
        error[track] = np.abs(logits - by_hand(tiny_backbone, paths)).max()

    assert error["finetune"] < 1e-5
    assert 1e-4 < error["head"] < 1e-2


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(({key: None}, rf"spec\.{key}: ") for key in ("weights_sha256", "transform", "decode", "views", "precision")),
        ({"views": []}, r"spec\.views: List should have at least 1 item"),
        ({"backbone": 5}, r"spec\.backbone: Input should be a valid string; found 5"),
        ({"pooling": "max"}, r"spec\.pooling: Input should be 'mean' or 'token'; found 'max'"),
        ({"precision": "int8"}, r"spec\.precision: Input should be"),
        ({"more": 1}, r"spec\.more: Extra inputs"),
        ({"interpolation": "best"}, r"spec\.transform\.interpolation"),
        ({"std": [0.2, 0.2, 0.0]}, "and std above 0"),
        ({"crop_px": 1000}, "expected 1 <= crop_px <= resize_px"),
    ],
)
def test_a_damaged_spec_is_refused(
    tmp_path: Path, tiny_backbone: BackboneParams, changes: dict[str, Any], words: str
) -> None:
    """Also where all digests agree, because somebody wrote them anew."""
    bundle = make_bundle(tiny_backbone, track="finetune")
    spec = dict(bundle.spec)
    of_transform = {name: value for name, value in changes.items() if name in spec["transform"]}
    spec |= {"transform": spec["transform"] | of_transform} if of_transform else changes
    kept = {name: value for name, value in spec.items() if value is not None}
    with pytest.raises(BundleError, match=words):
        load(written(tmp_path / "b", replace(bundle, spec=kept)))


def test_one_image_is_no_list(model: Model, photos: Path) -> None:
    """Going through a path would give letters, and through a picture its rows."""
    one: Any
    for one in (str(photos), photos, b"x", np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)):
        with pytest.raises(DataError, match=r"found one .* where several images are expected; pass a list: \[image\]"):
            model.predict(one)
    assert len(model.predict(np.zeros((2, 4, 5, 3), np.uint8))) == 2


def test_the_face_of_scikit_learn(model: Model, photos: Path) -> None:
    """Its scorers take the estimator; paths and embeddings give the same; other shapes are refused."""
    paths = [str(path) for path in sorted(photos.rglob("*.*"))]
    labels = np.array(CLASSES)[np.arange(len(paths)) % 3]
    classifier = BundleClassifier(model).fit(paths, labels)
    order = [CLASSES.index(name) for name in sorted(CLASSES)]
    expected = softmax(model.logits(paths), axis=1)[:, order]

    assert classifier.classes_.tolist() == sorted(CLASSES) != list(CLASSES)
    assert np.allclose(classifier.predict_proba(paths), expected)
    assert np.allclose(classifier.predict_proba(np.array(paths)[:, None]), expected)
    assert classifier.predict_proba([]).shape == (0, 3)
    assert classifier.predict(np.ones((2, 96), dtype=np.int64)).shape == (2,)
    assert np.allclose(classifier.predict_proba(model.embed(paths)), expected)
    assert classifier.decision_function(model.embed(paths)[:, 0]).shape == (12, 3)
    assert classifier.predict(paths).tolist() == [one.predicted for one in model.predict(paths)]
    accuracy = np.mean(classifier.predict(paths) == labels)
    assert get_scorer("accuracy")(classifier, paths, labels) == pytest.approx(accuracy)
    column = [sorted(CLASSES).index(label) for label in labels]
    loss = -np.log(expected[np.arange(len(paths)), column]).mean()
    assert get_scorer("neg_log_loss")(classifier, paths, labels) == pytest.approx(-loss)
    assert clone(classifier) is classifier
    assert np.array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(paths), classifier.predict_proba(paths))
    assert cross_val_score(classifier, paths, labels, cv=2, n_jobs=2).mean() == pytest.approx(accuracy)
    with pytest.raises(DataError, match=r"embeddings have shape \(3, 5\); expected \(N, 96\)"):
        classifier.predict(np.zeros((3, 5)))
    with pytest.raises(DataError, match="embeddings have numbers that are not finite"):
        classifier.predict(np.full((3, 96), np.nan))


def test_the_face_of_two_classes(tiny_backbone: BackboneParams, tmp_path: Path, photos: Path) -> None:
    """As scikit-learn has it, one number says how far the second class is ahead, which its scorers rely on."""
    bundle = make_bundle(tiny_backbone, track="finetune", classes=["no", "maybe"])
    classifier = BundleClassifier(load(written(tmp_path / "b", bundle)))
    paths = sorted(map(str, photos.rglob("*.*")))
    labels = ["maybe", "no"] * 6
    score = classifier.predict_proba(paths)[:, 1]

    assert classifier.classes_.tolist() == ["maybe", "no"]
    assert classifier.decision_function(paths).shape == (12,)
    assert ((classifier.decision_function(paths) > 0) == (classifier.predict(paths) == "no")).all()
    expected = roc_auc_score(np.array(labels) == "no", score)
    assert get_scorer("roc_auc")(classifier, paths, labels) == pytest.approx(expected)


def test_numbers_that_are_not_finite_are_no_answer(tiny_backbone: BackboneParams, tmp_path: Path, photos: Path) -> None:
    """A network that gives none is an error by name, never a class by chance."""
    bundle = make_bundle(tiny_backbone, track="finetune")
    huge = {
        name: rows * np.float32(1e30) if name.endswith("weight") else rows for name, rows in bundle.backbone.items()
    }
    ready = load(written(tmp_path / "b", replace(bundle, backbone=huge)))

    with pytest.raises(BundleError, match="gives numbers that are not finite at the layer 'last'"):
        ready.predict([photos / "red" / "1.png"])


def test_full_coverage_answers_what_it_was_found_on(
    tiny_backbone: BackboneParams, tmp_path: Path, photos: Path
) -> None:
    """The least sure of the held-out images is answered: both sides are compared in the precision that was kept."""
    bundle = make_bundle(tiny_backbone, track="finetune")
    paths = sorted(photos.rglob("*.*"))
    ready = load(written(tmp_path / "a", bundle))
    nearest = ready.predict(paths, num_nearest=1)
    for one in nearest:
        held_out = np.array([[one.confidence, one.nearest[0].similarity]], dtype=np.float32)
        assert apply_thresholds(one, replace(bundle.references, held_out=held_out).thresholds(1.0)).status == "ok"


@pytest.mark.parametrize("shape", [(1, 101), (202, 2, 3)])
def test_strips_in_memory_are_quarantined(model: Model, shape: tuple[int, ...]) -> None:
    """As those in files are: resizing one would take gigabytes."""
    strip = np.zeros(shape, dtype=np.uint8)
    for one in model.predict([strip, Image.fromarray(strip)]):
        assert (one.status, one.reason.endswith("a side is over 100 times the other")) == ("quarantined", True)
    assert model.predict([Image.new("RGB", (0, 0))])[0].reason == "0 x 0 pixels"


def test_a_batch_of_one_is_refused(bundles: dict[str, Path]) -> None:
    """As the command refuses it."""
    with pytest.raises(ParamsError, match="batch: found 1; expected at least 2"):
        load(bundles["finetune"], batch=1)


def test_members_of_archives_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch ends early where its bytes are many, and all images are in one, in order."""
    monkeypatch.setattr(image_like, "_BATCH_BYTES", 10)
    loaded = [LoadedImage(str(number), data=b"x" * number) for number in range(12)]
    parts = [[name for _, name in part] for part in image_like.in_batches(loaded, 4)]

    assert parts == [["0", "1", "2", "3"], ["4", "5", "6"], ["7", "8"], ["9", "10"], ["11"]]


@pytest.mark.parametrize("layer", ["last", "layer3"])
def test_a_heat_map_is_the_part_of_each_place_in_the_logit(
    tiny_backbone: BackboneParams, tmp_path: Path, photos: Path, layer: str
) -> None:
    """The map's mean is the embedding, so the head's weights say how much each place adds; the hottest place is 1."""
    bundle = make_bundle(tiny_backbone, track="finetune", views=1, layer=layer)
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


def test_the_gallery_shows_the_map_of_the_most_probable_class(
    model: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture with its own, also where the answer is `unknown`, which the page then says."""
    columns: list[int] = []

    def recorded(_: HeatMaps, pixels: NDArray[np.uint8], column: int) -> NDArray[np.float32]:
        columns.append(column)
        return np.zeros(pixels.shape[:2], dtype=np.float32)

    monkeypatch.setattr(HeatMaps, "of", recorded)
    paths = sorted(photos.rglob("*.*"))
    predictions = model.predict(paths, num_nearest=1, coverage=0.01)
    write_gallery(tmp_path / "a", model, paths, predictions, photos=None, weights=None, name="models/x")
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")

    assert columns == [int(one.logits.argmax()) for one in predictions if one.logits is not None]
    assert page.count("Heat map of the class: ") == len(paths)


def test_a_training_image_that_has_changed_is_not_shown(photos: Path) -> None:
    """A thumbnail is of the bytes that were trained on, or is not there."""
    path = photos / "red" / "1.png"

    assert thumbnail(path, sha256_file(path)).startswith("data:image/webp;base64,")
    assert thumbnail(path, "0" * 64) == thumbnail(photos / "gone.png", "0" * 64) == ""


def test_a_network_without_a_map_has_no_heat_map(tiny_backbone: BackboneParams) -> None:
    """Where the embedding is not the mean of a map, nothing is drawn rather than something wrong."""
    bundle = make_bundle(tiny_backbone, track="finetune", views=1)

    assert find_heat_maps(replace(bundle, spec=dict(bundle.spec) | {"pooling": "token"}), None) is None


def test_the_gallery_shows_text_as_text(model: Model, photos: Path, tmp_path: Path) -> None:
    """Names and labels are escaped, training images shown where they are what they were, the same bytes each time."""
    hostile = photos / "<img src=x onerror=alert(1)>.png"
    shutil.copy(photos / "red" / "1.png", hostile)
    given: list[ImageLike] = [hostile, b"", photos / "red" / "1.png"]
    predictions = model.predict(given, num_nearest=2)
    for name in ("a", "b"):
        write_gallery(tmp_path / name, model, given, predictions, photos=photos, weights=None, name="models/x")
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")

    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page
    assert "&lt;b&gt;so&lt;/b&gt;" in page
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["0001.png", "0003.png", "index.html"]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    with pytest.raises(DataError, match="exists already"):
        write_gallery(tmp_path / "a", model, given, predictions, photos=None, weights=None, name="models/x")
