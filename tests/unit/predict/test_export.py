"""Export: another runtime gives the model's logits from the file alone, and a wrong export is never written."""

import errno
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from headstart.backbone.params import BackboneParams
from headstart.base.errors import BundleError, DataError
from headstart.predict.commands.export import parse, run
from headstart.predict.export import FORMATS, export_model, export_self_contained
from headstart.predict.model import Model, load
from headstart.predict.network import LogitsNetwork, build_logits_network
from tests.support.bundles import CLASSES, make_bundle, written
from tests.support.source import ROOT


@pytest.fixture
def model(tmp_path: Path, tiny_backbone: BackboneParams) -> Model:
    """A fine-tuned model with one view."""
    return load(written(tmp_path / "b", make_bundle(tiny_backbone, track="finetune", views=1)))


def pixels_by_metadata(about: dict[str, Any], path: Path) -> NDArray[np.uint8]:
    """Prepare a photo with the export's metadata and Pillow only, as a user without this project would."""
    transform = about["spec"]["transform"]
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    size = [int(transform["resize_px"] * side / short) for side in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling[transform["interpolation"].upper()])
    left, top = (round((side - transform["crop_px"]) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + transform["crop_px"], top + transform["crop_px"])))


@pytest.mark.slow
def test_an_onnx_file_needs_nothing_else(model: Model, photos: Path, tmp_path: Path) -> None:
    """With the metadata in the file, ONNX Runtime gives the model's logits for batches of any size."""
    paths = sorted(photos.rglob("*.*"))
    difference = export_model(model, "onnx", tmp_path / "m.onnx", paths[:3], None)
    about = json.loads({one.key: one.value for one in onnx.load(tmp_path / "m.onnx").metadata_props}["headstart"])
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    expected = model.logits(paths)

    assert about["classes"] == list(CLASSES)
    assert about["model_sha256"] == model.digest
    assert difference < 1e-3
    for part in (slice(0, 1), slice(0, 12)):
        pixels = np.stack([pixels_by_metadata(about, path) for path in paths[part]])
        logits, probabilities = session.run(["logits", "probabilities"], {"pixels": pixels})
        assert np.abs(logits - expected[part]).max() < 1e-3
        assert np.abs(probabilities - softmax(expected[part], axis=1)).max() < 1e-3


def test_a_torch_program_needs_nothing_else(model: Model, photos: Path, tmp_path: Path) -> None:
    """With the metadata in the file, torch.export.load gives the model's logits."""
    paths = sorted(photos.rglob("*.*"))
    export_model(model, "torch", tmp_path / "m.pt2", paths[:3], None)
    extra = {"headstart.json": ""}
    program: Any = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    about = json.loads(extra["headstart.json"])
    with torch.inference_mode():
        logits, _ = program(torch.from_numpy(np.stack([pixels_by_metadata(about, path) for path in paths])))

    assert np.abs(logits.numpy() - model.logits(paths)).max() < 1e-3


def test_a_half_precision_head_is_exported_with_rounding(
    tiny_backbone: BackboneParams, photos: Path, tmp_path: Path
) -> None:
    """The exported network rounds embeddings as the cache did; without rounding the logits would differ."""
    bundle = make_bundle(tiny_backbone, views=1)
    half = replace(bundle, spec=dict(bundle.spec) | {"precision": "float16"})
    model = load(written(tmp_path / "b", half), weights=tiny_backbone.weights)
    pixels = torch.from_numpy(model.pixels([photos / "red" / "1.png"]))
    with torch.inference_mode():
        found, rough = (
            build_logits_network(one, Path(tiny_backbone.weights))(pixels)[0].numpy() for one in (half, bundle)
        )
    expected = model.logits([photos / "red" / "1.png"])

    assert np.abs(found - expected).max() < 1e-5 < np.abs(rough - expected).max()


@pytest.mark.slow
def test_an_export_is_compared_on_the_mean_of_the_views(
    tiny_backbone: BackboneParams, photos: Path, tmp_path: Path
) -> None:
    """The check compares the mean of the views' logits, because that is what the model returns."""
    several = load(written(tmp_path / "b", make_bundle(tiny_backbone, track="finetune", views=3)))

    assert export_model(several, "onnx", tmp_path / "m.onnx", [photos / "red" / "1.png"], None) < 1e-3


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.slow
def test_an_export_with_wrong_logits_is_not_written(
    model: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """In every format, an export whose logits differ on a real image is an error, and no file appears."""
    forward = LogitsNetwork.forward

    def wrong(self: LogitsNetwork, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, _ = forward(self, pixels)
        return logits + 0.01, logits.softmax(1)

    monkeypatch.setattr(LogitsNetwork, "forward", wrong)
    with pytest.raises(BundleError, match=r"differ by 0\.01 on 1 images, expected at most 0\.001. Nothing was written"):
        export_model(model, form, tmp_path / "m", [photos / "red" / "1.png"], None)
    assert not (tmp_path / "m").exists()


def test_a_self_contained_bundle_needs_no_weights(tiny_backbone: BackboneParams, photos: Path, tmp_path: Path) -> None:
    """It predicts the same on a machine without the weights file. An existing folder is not overwritten."""
    folder = written(tmp_path / "head", make_bundle(tiny_backbone))
    head = load(folder, weights=tiny_backbone.weights)
    export_self_contained(head, tmp_path / "whole", Path(tiny_backbone.weights))
    whole = load(tmp_path / "whole")
    paths = sorted(photos.rglob("*.*"))

    assert np.allclose(whole.logits(paths), head.logits(paths), atol=1e-6)
    assert whole.bundle.track == "head"
    with pytest.raises(DataError, match="exists already"):
        export_self_contained(head, tmp_path / "whole", Path(tiny_backbone.weights))


@pytest.mark.parametrize("form", [["--self-contained"], ["--to", "onnx", "--check", "photos"]])
def test_an_output_that_cannot_be_written_is_named_before_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    """A file where a folder is expected, or a folder without leave to write, is an error before the bundle is read."""
    (tmp_path / "file").touch()
    closed = tmp_path / "closed"
    closed.mkdir()
    make = tempfile.TemporaryFile

    def refuse(dir: Path) -> Any:  # noqa: A002 - the name of the argument; root may write anywhere, so chmod is no test
        if dir == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(dir))
        return make(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    outputs = {
        str(tmp_path / "file" / "new"): "file is a file; expected a folder. Name another output",
        str(closed / "a" / "new"): r"closed cannot be written to \(Permission denied\)\. Name another output",
    }
    if form == ["--self-contained"]:
        outputs[str(tmp_path / "file")] = "file: exists as a file; --self-contained makes a new folder"
        outputs[str(closed)] = "closed: exists already; --self-contained makes a new folder"
    for output, words in outputs.items():
        with pytest.raises(DataError, match=words):
            run(parse([str(tmp_path / "no-bundle"), output, *form]))
    assert not list(closed.iterdir())


@pytest.mark.slow
def test_the_export_command(tmp_path: Path, tiny_backbone: BackboneParams, photos: Path) -> None:
    """It requires images to compare on, prints the largest difference, and never writes into the bundle."""
    folder = written(tmp_path / "b", make_bundle(tiny_backbone, track="finetune", views=1))
    start = [sys.executable, "-m", "headstart", "export", str(folder)]
    command = [*start, str(tmp_path / "m.onnx"), "--to", "onnx"]
    bare = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    done = subprocess.run([*command, "--check", str(photos)], cwd=ROOT, capture_output=True, text=True)

    both = subprocess.run(
        [*command[:6], "--self-contained", "--check", str(photos)], cwd=ROOT, capture_output=True, text=True
    )
    inside = [*start, str(folder / "model.safetensors"), *command[6:], "--check", str(photos)]
    over = subprocess.run(inside, cwd=ROOT, capture_output=True, text=True)

    assert both.returncode == 2
    assert both.stderr.startswith("export: --check can only be used with --to")
    assert over.returncode == 1
    assert "lies in the bundle; name another output" in over.stderr
    load(folder)
    assert bare.returncode == 2
    assert bare.stderr.startswith(
        "export: --to needs --check INPUT...: some images on which the export must agree with the bundle."
    )
    assert done.returncode == 0, done.stderr
    assert f"export: {tmp_path / 'm.onnx'}: its logits differ by at most" in done.stdout
    assert done.stdout.endswith(" on 12 images\n")
    shutil.rmtree(folder)
