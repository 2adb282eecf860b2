"""A bundle has everything needed to predict and always the same bytes; one that was edited by hand is an error."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.artifacts.bundle import Bundle, read_bundle, write_bundle
from headstart.artifacts.references import References
from headstart.base.errors import BundleError
from headstart.base.files import sha256_file

RANDOM = np.random.default_rng(0)
BUNDLE = Bundle(
    track="head",
    classes=["ant", "bee", "10"],
    spec={"backbone": "tiny", "layers": ["last"]},
    layers=["last"],
    dims=[4],
    temperature=2.0,
    trained_on={"num_images": 3},
    weight=RANDOM.normal(size=(3, 4)).astype(np.float32),
    bias=RANDOM.normal(size=3).astype(np.float32),
    references=References(
        [4],
        ["0" * 64, "1" * 64],
        ["ant/1.jpg", "bee/\udcff, 2.jpg"],
        ["ant", "bee"],
        RANDOM.normal(size=(2, 4)).astype(np.float16),
        RANDOM.uniform(size=(5, 2)).astype(np.float32),
    ),
)


def test_a_bundle_survives_the_folder(tmp_path: Path) -> None:
    """Everything that was written is read back, with the classes in their order."""
    write_bundle(tmp_path / "b", BUNDLE)
    read = read_bundle(tmp_path / "b")

    assert replace(read, weight=BUNDLE.weight, bias=BUNDLE.bias, references=BUNDLE.references) == BUNDLE
    for name in ("embeddings", "held_out", "digests", "paths", "labels"):
        assert np.array_equal(getattr(read.references, name), getattr(BUNDLE.references, name))
    assert np.array_equal(read.weight, BUNDLE.weight)
    assert np.array_equal(read.bias, BUNDLE.bias)


def test_equal_bundles_are_equal_bytes(tmp_path: Path) -> None:
    """Writing a bundle twice gives the same bytes, so dvc.lock does not change."""
    for name in ("a", "b"):
        write_bundle(tmp_path / name, BUNDLE)

    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [
        "config.json", "model.safetensors", "references.safetensors"
    ]  # fmt: skip
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_logits_average_views_and_divide_by_the_temperature() -> None:
    """Logits are the head's linear function of the mean over the views, divided by the temperature."""
    embeddings = RANDOM.normal(size=(5, 2, 4)).astype(np.float32)
    expected = (embeddings.mean(axis=1) @ BUNDLE.weight.T + BUNDLE.bias) / 2.0

    assert np.allclose(BUNDLE.logits(embeddings), expected, atol=1e-6)


def edit(folder: Path, kind: str) -> None:
    """Damage a bundle in one way."""
    config = json.loads((folder / "config.json").read_text())
    if kind == "truncated weights":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-4])
    elif kind == "no weights":
        (folder / "model.safetensors").unlink()
    elif kind == "broken json":
        (folder / "config.json").write_text("{")
    else:
        if kind == "class dropped":
            config["classes"].pop()
        elif kind == "class twice":
            config["classes"][1] = config["classes"][0]
        elif kind == "classes swapped":
            config["classes"].reverse()
        elif kind == "temperature":
            config["calibration"]["temperature"] = 1.0
        elif kind == "spec":
            config["spec"]["backbone"] = "other"
        elif kind == "schema":
            config["schema"] = "headstart.bundle/0"
        elif kind == "no layers":
            del config["layers"]
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "kind",
    [
        "truncated weights",
        "no weights",
        "broken json",
        "class dropped",
        "class twice",
        "classes swapped",
        "temperature",
        "spec",
        "schema",
        "no layers",
    ],
)
def test_bundles_edited_by_hand_are_refused(tmp_path: Path, kind: str) -> None:
    """A bundle that was changed after it was written is an error that names its folder."""
    write_bundle(tmp_path / "b", BUNDLE)
    edit(tmp_path / "b", kind)

    with pytest.raises(BundleError, match=str(tmp_path)):
        read_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ["ant", "ant", "10"]}, "expected at least 2 different names"),
        ({"classes": ["ant", "bee"]}, r"have shapes .*expected \(2, dim\)"),
        ({"weight": BUNDLE.weight[:, :3]}, r"dims are \[4\]; expected one for each of \['last'\], 3 together"),
        (
            {"references": replace(BUNDLE.references, embeddings=np.zeros((2, 3), np.float16))},
            r"references have shape \(2, 3\); expected \(M, 4\)",
        ),
        ({"weight": BUNDLE.weight.astype(np.float64)}, "head.weight is float64; expected float32"),
        ({"bias": np.full(3, np.nan, dtype=np.float32)}, "head.bias has numbers that are not finite"),
        ({"temperature": 0.0}, "calibration.temperature is 0.0"),
        ({"layers": ["layer9"]}, r"layers are \['layer9'\]; expected some of \['last'\]"),
        ({"layers": [], "dims": []}, r"layers are \[\]; expected some of \['last'\]"),
        ({"dims": [3]}, r"dims are \[3\]; expected one for each of \['last'\], 4 together"),
        ({"dims": [1, 3]}, r"dims are \[1, 3\]; expected one for each of \['last'\], 4 together"),
        ({"references": replace(BUNDLE.references, dims=[1, 3])}, r"references have dims \[1, 3\]; expected \[4\]"),
        ({"track": "evil"}, r"track is 'evil'; expected one of \('head', 'finetune'\)"),
        ({"classes": [1, 2, 3]}, "expected at least 2 different names"),
        ({"backbone": {"bn.mean": np.full(2, np.nan)}}, r"bn\.mean has numbers that are not finite"),
        ({"references": References.none([4])}, "there are no references"),
        (
            {"references": replace(BUNDLE.references, embeddings=np.full((2, 4), np.inf, np.float16))},
            "references has numbers that are not finite",
        ),
    ],
)
def test_bundles_that_contradict_themselves_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """A bundle whose contents contradict each other is an error, even if all its digests agree."""
    write_bundle(tmp_path / "b", replace(BUNDLE, **changes))

    with pytest.raises(BundleError, match=words):
        read_bundle(tmp_path / "b")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "references.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    """A pipe, a device or a folder in place of a file of a bundle is an error that names it, and is not waited for."""
    write_bundle(tmp_path / "b", BUNDLE)
    path = tmp_path / "b" / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()

    with pytest.raises(BundleError, match=f"{name}: cannot be read .not a regular file.. Delete .* and run: dvc repro"):
        read_bundle(tmp_path / "b")


def test_references_of_another_type_are_refused(tmp_path: Path) -> None:
    """References whose type was edited would compare noise, so they are an error."""
    embeddings: Any = np.ascontiguousarray(BUNDLE.references.embeddings).view(np.int16)
    write_bundle(tmp_path / "b", replace(BUNDLE, references=replace(BUNDLE.references, embeddings=embeddings)))

    with pytest.raises(BundleError, match="references are int16; expected float16"):
        read_bundle(tmp_path / "b")


def test_a_pickle_and_anothers_references_are_refused(tmp_path: Path) -> None:
    """A pickle is never loaded, even if its digest agrees; references of another bundle are an error."""
    write_bundle(tmp_path / "b", BUNDLE)
    write_bundle(tmp_path / "c", replace(BUNDLE, references=References.none([4])))
    shutil.copy(tmp_path / "c" / "references.safetensors", tmp_path / "b")
    with pytest.raises(BundleError, match=r"references\.safetensors: sha256 is"):
        read_bundle(tmp_path / "b")

    path, config = tmp_path / "c" / "model.safetensors", json.loads((tmp_path / "c" / "config.json").read_text())
    path.write_bytes(pickle.dumps({"head.weight": BUNDLE.weight}))
    with pytest.raises(BundleError, match=r"model\.safetensors: sha256 is"):
        read_bundle(tmp_path / "c")
    config["model_sha256"] = sha256_file(path)
    (tmp_path / "c" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="is damaged"):
        read_bundle(tmp_path / "c")
