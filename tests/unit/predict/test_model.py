"""The model: it gives the logits that training computes, for every kind of image, batch size and engine."""

import io
import shutil
import subprocess
import sys
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

from headstart.backbone.build import build_backbone
from headstart.backbone.params import BackboneParams
from headstart.backbone.spec import transform_of
from headstart.base.errors import BundleError, DataError, ParamsError
from headstart.imaging.decode import DECODE_POLICIES
from headstart.imaging.decode import decode as decoded
from headstart.imaging.formats import format_names
from headstart.imaging.transform import view_of
from headstart.predict import engine as engines
from headstart.predict import image_like
from headstart.predict.image_like import ImageLike
from headstart.predict.inputs import LoadedImage
from headstart.predict.model import Model, load
from headstart.predict.network import find_backbone
from headstart.predict.prediction import apply_thresholds
from tests.rehearsal.device import pretended
from tests.support.bundles import CLASSES, make_bundle, written
from tests.support.source import ROOT


def by_hand(backbone: BackboneParams, paths: list[Path]) -> NDArray[np.float64]:
    """Compute the logits of the bundles with torch and Pillow only."""
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
@pytest.mark.slow
def test_logits_are_those_of_the_network_and_the_head(
    bundles: dict[str, Path], tiny_backbone: BackboneParams, photos: Path, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, track: str, batch: int | None, num_images: int,
) -> None:  # fmt: skip
    """Both tracks, any batch, torch and ONNX Runtime give the mean over the views of the calibrated logits."""
    monkeypatch.setattr(engines, "user_folder", lambda: tmp_path / "engines")
    paths = sorted(photos.rglob("*.*"))
    ready = load(bundles[track], batch=batch, num_images=num_images, weights=tiny_backbone.weights)

    assert np.abs(ready.logits(paths) - by_hand(tiny_backbone, paths)).max() < 1e-4
    assert np.allclose(np.array([one.logits for one in ready.predict(paths)]), ready.logits(paths), atol=1e-12)
    assert len(list((tmp_path / "engines").glob("*.onnx"))) == (num_images > 1)


@pytest.mark.slow
def test_a_damaged_cached_graph_is_exported_again(
    bundles: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph with a wrong digest is not used. An undamaged one is used without an export."""
    monkeypatch.setattr(engines, "user_folder", lambda: tmp_path)
    first = load(bundles["finetune"], num_images=10**6).logits([photos / "red" / "1.png"])
    (graph,) = tmp_path.glob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:-10] + b"0123456789")

    assert np.allclose(load(bundles["finetune"], num_images=10**6).logits([photos / "red" / "1.png"]), first, atol=1e-5)
    monkeypatch.setattr("headstart.engines.export.make_graph", None)
    load(bundles["finetune"], num_images=10**6)


def test_all_kinds_of_images_are_accepted(model: Model, photos: Path) -> None:
    """Paths, bytes, Pillow images and arrays of a photo give the same prediction, with a path or position as name."""
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
def test_other_objects_are_errors(model: Model, odd: object) -> None:
    """Arrays of floats or of other shapes, and other objects, are errors that say what was expected."""
    with pytest.raises(DataError, match="#0: found an .*expected"):
        model.predict([odd])  # type: ignore[list-item]


def test_bad_images_are_quarantined_in_their_place(model: Model, photos: Path) -> None:
    """A file that cannot be decoded has a status and a reason, and does not change the other predictions."""
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
        f"not an image of a known format ({', '.join(format_names())})",
    ]  # fmt: skip
    assert (found[0].predicted, found[0].confidence, found[0].logits, found[0].top(3)) == ("", None, None, [])
    assert np.allclose(np.array([found[1].logits, found[4].logits]), model.logits(good), atol=1e-12)
    for method in (model.logits, model.embed, model.pixels):
        with pytest.raises(DataError, match="#1: zero bytes"):
            method([good[0], b""])


def test_a_model_is_safe_in_threads(model: Model, photos: Path) -> None:
    """Several threads at once get the same logits as one thread."""
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


def test_no_images_give_no_rows(model: Model) -> None:
    """The empty arrays have the right number of columns."""
    assert model.predict([]) == []
    assert model.embed([]).shape == (0, 2, 96)
    assert model.logits([]).shape == (0, 3)


def test_images_unlike_the_training_images_are_unknown(model: Model, photos: Path) -> None:
    """Below either threshold the answer is `unknown`, and the reason names the threshold."""
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
    assert {one.status for one in answers} == {"unknown"}  # no image is similar to the random references
    nearest = model.predict(paths[:1], num_nearest=3)[0].nearest
    places, similarities = known.nearest(model.embed(paths[:1]), 3)
    assert [(one.path, one.digest, one.label) for one in nearest] == [
        (known.paths[place], known.digests[place], known.labels[place]) for place in places[0]
    ]
    assert [one.similarity for one in nearest] == pytest.approx(similarities[0].tolist())


def test_a_wrong_coverage_is_an_error(tmp_path: Path, tiny_backbone: BackboneParams, model: Model) -> None:
    """A fraction outside (0, 1], or a class named `unknown`, is an error before any image is read."""
    for coverage in (0.0, 1.5, float("nan")):
        with pytest.raises(DataError, match="expected a fraction above 0, up to 1"):
            model.predict([], coverage=coverage)
    folder = written(tmp_path / "b", make_bundle(tiny_backbone, track="finetune", classes=["a", "unknown", "c"]))
    with pytest.raises(DataError, match="a class has the name 'unknown'"):
        load(folder).predict([], coverage=0.9)


@pytest.mark.slow
def test_weights_are_found_by_their_digest(
    bundles: dict[str, Path], tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head takes its backbone's weights from weights/ or the given file. A file with another digest is an error."""
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
    packaged = {"backbone": "efficientnet_lite0", "weights_sha256": "0" * 64, "pooling": "mean"}
    with pytest.raises(BundleError, match="The weights that are published now have sha256"):
        find_backbone(packaged, "last", None)


@pytest.mark.slow
def test_a_fine_tuned_model_predicts_in_full_precision(
    tiny_backbone: BackboneParams, tmp_path: Path, photos: Path
) -> None:
    """Only a head sees rounded embeddings, because it was trained on them."""
    paths = sorted(photos.rglob("*.*"))
    error = {}
    for track in ("head", "finetune"):
        bundle = make_bundle(tiny_backbone, track=track)
        half = replace(bundle, spec=dict(bundle.spec) | {"precision": "float16"})
        logits = load(written(tmp_path / track, half), weights=tiny_backbone.weights).logits(paths)
        error[track] = np.abs(logits - by_hand(tiny_backbone, paths)).max()

    assert error["finetune"] < 1e-5
    assert 1e-4 < error["head"] < 1e-2


def test_bundles_that_do_not_fit_are_errors(tmp_path: Path, tiny_backbone: BackboneParams) -> None:
    """Another decode policy, missing tensors and an unknown backbone are errors that name the bundle."""
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


@pytest.mark.parametrize("decode", ["exact", "scaled"])
def test_a_bundle_sees_large_photos_as_in_training(tmp_path: Path, tiny_backbone: BackboneParams, decode: str) -> None:
    """Its spec says whether they are reduced: those of earlier versions say no. Small photos are never reduced."""
    bundle = make_bundle(tiny_backbone, track="finetune", views=1)
    bundle = replace(bundle, spec=dict(bundle.spec) | {"decode": DECODE_POLICIES[decode]})
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(60, 80, 3), dtype=np.uint8))
    files = []
    for size in ((800, 600), (160, 120)):
        file = io.BytesIO()
        coarse.resize(size).save(file, "JPEG")
        files.append(file.getvalue())
    seen = load(written(tmp_path, bundle)).pixels(files)
    transform = transform_of(bundle.spec)
    whole, reduced = ([transform.pixels(decoded(data, 10**6, side).image) for data in files] for side in (None, 150))

    assert np.array_equal(seen, whole if decode == "exact" else reduced)
    assert np.array_equal(whole[0], reduced[0]) is False
    assert np.array_equal(whole[1], reduced[1])


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
def test_an_edited_spec_is_an_error(
    tmp_path: Path, tiny_backbone: BackboneParams, changes: dict[str, Any], words: str
) -> None:
    """Even if somebody has updated all digests after the edit."""
    bundle = make_bundle(tiny_backbone, track="finetune")
    spec = dict(bundle.spec)
    of_transform = {name: value for name, value in changes.items() if name in spec["transform"]}
    spec |= {"transform": spec["transform"] | of_transform} if of_transform else changes
    kept = {name: value for name, value in spec.items() if value is not None}
    with pytest.raises(BundleError, match=words):
        load(written(tmp_path / "b", replace(bundle, spec=kept)))


def test_one_image_in_place_of_a_list_is_an_error(model: Model, photos: Path) -> None:
    """Iterating over a path would give letters, and over an array rows of pixels. A stack of images is fine."""
    one: Any
    for one in (str(photos), photos, b"x", np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)):
        with pytest.raises(DataError, match=r"found one .* where several images are expected; pass a list: \[image\]"):
            model.predict(one)
    assert len(model.predict(np.zeros((2, 4, 5, 3), np.uint8))) == 2


def test_numbers_that_are_not_finite_are_an_error(tiny_backbone: BackboneParams, tmp_path: Path, photos: Path) -> None:
    """A network that gives infinite numbers is an error that names the layers, never an arbitrary class."""
    bundle = make_bundle(tiny_backbone, track="finetune")
    huge = {
        name: rows * np.float32(1e30) if name.endswith("weight") else rows for name, rows in bundle.backbone.items()
    }
    ready = load(written(tmp_path / "b", replace(bundle, backbone=huge)))

    with pytest.raises(BundleError, match="gives numbers that are not finite at the layers \\['last'\\]"):
        ready.predict([photos / "red" / "1.png"])


def test_full_coverage_answers_the_held_out_images(tiny_backbone: BackboneParams, tmp_path: Path, photos: Path) -> None:
    """Even the least confident held-out image is answered, because the comparison uses the stored precision."""
    bundle = make_bundle(tiny_backbone, track="finetune")
    paths = sorted(photos.rglob("*.*"))
    ready = load(written(tmp_path / "a", bundle))
    nearest = ready.predict(paths, num_nearest=1)
    for one in nearest:
        held_out = np.array([[one.confidence, one.nearest[0].similarity]], dtype=np.float32)
        assert apply_thresholds(one, replace(bundle.references, held_out=held_out).thresholds(1.0)).status == "ok"


@pytest.mark.parametrize("shape", [(1, 101), (202, 2, 3)])
def test_very_long_images_in_memory_are_quarantined(model: Model, shape: tuple[int, ...]) -> None:
    """As in files, because resizing one would take gigabytes."""
    strip = np.zeros(shape, dtype=np.uint8)
    for one in model.predict([strip, Image.fromarray(strip)]):
        assert (one.status, one.reason.endswith("a side is over 100 times the other")) == ("quarantined", True)
    assert model.predict([Image.new("RGB", (0, 0))])[0].reason == "0 x 0 pixels"


def test_a_batch_of_one_is_an_error(bundles: dict[str, Path]) -> None:
    """As on the command line."""
    with pytest.raises(ParamsError, match="batch: found 1; expected at least 2"):
        load(bundles["finetune"], batch=1)


def test_batches_of_archive_members_are_limited_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch ends early if its images have many bytes. Every image is in one batch, in order."""
    monkeypatch.setattr(image_like, "_BATCH_BYTES", 10)
    loaded = [LoadedImage(str(number), data=b"x" * number) for number in range(12)]
    parts = [[name for _, name in part] for part in image_like.in_batches(loaded, 4)]

    assert parts == [["0", "1", "2", "3"], ["4", "5", "6"], ["7", "8"], ["9", "10"], ["11"]]


def test_a_gpu_serves_few_photos_by_small_passes(bundles: dict[str, Path], photos: Path) -> None:
    """A photo that comes alone is no part of a pass of 128, and has the same bits as among others."""
    paths = sorted(photos.rglob("*.*"))
    with pretended("cuda"):
        model = load(bundles["finetune"], device="cuda", num_images=10**6, num_at_once=1)
        sizes: list[int] = []
        network: Any = model._engine._network  # type: ignore[attr-defined]
        network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        alone = model.embed(paths[:1])
        together = model.embed(paths)
    assert set(sizes) == {8}
    assert np.array_equal(alone, together[:1])


@pytest.mark.parametrize(("num_pictures", "size"), [(1, 8), (8, 8), (9, 32), (33, 128), (10**6, 128)])
def test_the_passes_of_a_gpu_have_few_sizes(num_pictures: int, size: int) -> None:
    """So that photos have the same bits in most jobs, and cuDNN plans its kernels for few sizes."""
    assert engines._pass_size(num_pictures, "cuda:0") == size


def test_all_threads_decode_the_photos_of_one_request(
    bundles: dict[str, Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one call of the engine runs at a time, the images of a batch are decoded beside each other."""
    model = load(bundles["finetune"], batch=64)
    model._num_threads = 4
    together = threading.Barrier(4)
    views_of = model._reader._reader.views_of

    def wait(data: bytes, max_pixels: int) -> Any:
        together.wait(20)
        return views_of(data, max_pixels)

    monkeypatch.setattr(model._reader._reader, "views_of", wait)
    paths = sorted(photos.rglob("*.*"))[:8]
    assert [one.name for one in model.predict(paths)] == [str(path) for path in paths]


@pytest.mark.slow
def test_a_gpu_needs_no_onnx_runtime(bundles: dict[str, Path], photos: Path) -> None:
    """Without the package, torch predicts and embeds."""
    code = (
        "import sys; sys.modules['onnxruntime'] = None; import stages.extract.embedder; "
        "from headstart.predict.model import load; "
        "print(load(sys.argv[1]).predict([sys.argv[2]])[0].status)"
    )
    photo = sorted(photos.rglob("*.*"))[0]
    command = [sys.executable, "-c", code, str(bundles["finetune"]), str(photo)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr
