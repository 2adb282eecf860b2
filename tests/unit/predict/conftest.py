"""Fixtures of the tests of `headstart.predict`."""

from pathlib import Path

import pytest

from headstart.backbone.params import BackboneParams
from headstart.predict.model import Model, load
from tests.support.bundles import make_bundle, written


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams) -> dict[str, Path]:
    """A bundle of each track, with two views."""
    root = tmp_path_factory.mktemp("bundles")
    return {track: written(root / track, make_bundle(tiny_backbone, track=track)) for track in ("head", "finetune")}


@pytest.fixture
def model(bundles: dict[str, Path]) -> Model:
    """A fine-tuned model, which needs no weights file."""
    return load(bundles["finetune"])
