"""Prediction on a pretended device: the CPU's logits, and small passes for few photos."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from headstart.backbone.params import BackboneParams
from headstart.base.errors import ParamsError
from headstart.predict.commands import serve
from headstart.predict.heat_maps import find_heat_maps
from headstart.predict.model import Model, load
from headstart.predict.server.app import make_app
from headstart.predict.server.batcher import Batcher
from headstart.predict.server.decoder import Decoder
from headstart.predict.server.explainer import Explainer
from headstart.predict.server.limits import PREDICT, Limits
from tests.rehearsal.device import more_pictures_than, pretended
from tests.rehearsal.state import Device
from tests.support.bundles import make_bundle, written


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams) -> dict[str, Path]:
    """A bundle of each track, with one view."""
    root = tmp_path_factory.mktemp("bundles")
    return {
        track: written(root / track, make_bundle(tiny_backbone, track=track, views=1)) for track in ("head", "finetune")
    }


def passes_of(device: Device) -> list[int]:
    """Return a list that gets the number of pictures of every forward pass from now on."""
    sizes: list[int] = []

    def see(name: str, tensors: Sequence[torch.Tensor]) -> None:
        if name == "permute":  # the first operation on the pictures of a pass
            sizes.append(len(tensors[0]))

    device.failures.append(see)
    return sizes


@pytest.mark.parametrize("track", ["head", "finetune"])
@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_gpu_predicts_as_the_cpu_does(
    bundles: dict[str, Path], tiny_backbone: BackboneParams, photos: Path, kind: str, track: str
) -> None:
    """Bundles of both tracks give the CPU's logits on every kind of device."""
    paths = sorted(photos.rglob("*.*"))
    cpu = load(bundles[track], device="cpu", weights=tiny_backbone.weights).logits(paths)
    with pretended(kind) as device:
        mine = load(bundles[track], device="auto", weights=tiny_backbone.weights).logits(paths)
        assert device.log.computed["conv2d"]
    assert np.allclose(mine, cpu, atol=1e-5)


class _ServingError(Exception):
    """Ends the command `serve` when it has loaded its model."""


def served_model(bundle: Path, device: str) -> Model:
    """Return the model that the command `serve` loads."""
    loaded: list[Model] = []

    def keep(*given: Any, **options: Any) -> None:
        loaded.append(load(*given, **options))
        raise _ServingError

    with mock.patch("headstart.predict.commands.serve.load", keep), pytest.raises(_ServingError):
        serve.run(serve.parse([str(bundle), "--device", device, "--port", "0"]))
    return loaded[0]


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_server_has_small_passes(bundles: dict[str, Path], photos: Path, kind: str) -> None:
    """The model of a server takes one photo through a pass of at most 8 pictures; more photos give the same logits."""
    paths = sorted(photos.rglob("*.*"))
    with pretended(kind) as device:
        model = served_model(bundles["finetune"], kind)
        passes = passes_of(device)
        one, more = model.logits(paths[:1]), model.logits(paths)
        assert max(passes) <= 8
    assert np.allclose(one[0], more[0], atol=1e-12)  # rows of a matrix product may differ in a bit


@pytest.fixture
def served(bundles: dict[str, Path], cuda: Device) -> Iterator[TestClient]:
    """A client of the prediction server on a CUDA device."""
    model = served_model(bundles["finetune"], "cuda")
    explainer = Explainer(model, find_heat_maps(model.bundle, None), None)
    limits = Limits()
    with Decoder(model, limits.max_pixels, 30) as decoder, Batcher(model, explainer, limits.max_requests) as batcher:
        yield TestClient(make_app(model, decoder, batcher, limits, "127.0.0.1"), "http://localhost")
    assert not cuda.in_flight


def test_a_photo_is_served_by_a_small_pass(served: TestClient, cuda: Device, photos: Path) -> None:
    """A request with one photo costs a pass of at most 8 pictures and one wait, and is answered as on the CPU."""
    passes = passes_of(cuda)
    waits = len(cuda.log.waits)
    path = photos / "red" / "1.png"
    answer = served.post(PREDICT, files={"images": (path.name, path.read_bytes())})
    assert answer.status_code == 200, answer.text
    assert max(passes) <= 8
    assert len(cuda.log.waits) - waits <= 1


def test_the_server_survives_a_lack_of_memory(served: TestClient, cuda: Device, photos: Path) -> None:
    """Out of memory halves the pass and answers; with memory for nothing, the next request is answered again."""
    path = photos / "red" / "1.png"
    files = {"images": (path.name, path.read_bytes())}
    cuda.failures.append(more_pictures_than(4))
    assert served.post(PREDICT, files=files).status_code == 200
    cuda.failures[:] = [more_pictures_than(0)]
    assert served.post(PREDICT, files=files).status_code >= 500
    cuda.failures.clear()
    assert served.post(PREDICT, files=files).status_code == 200


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("device", ["cuda:7", "xpu", "meta", "vulkan"])
def test_other_devices_are_a_clear_error(bundles: dict[str, Path], device: str) -> None:
    """A device that the machine lacks, or that Headstart does not know, is an error that says what is possible."""
    with pytest.raises(ParamsError, match=f"device: found '{device}'"):
        load(bundles["finetune"], device=device)
