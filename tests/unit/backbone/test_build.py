"""Backbones: networks of torchvision and timm, frozen and without classifier, with published weights or a file."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

from headstart.backbone import torchvision_source
from headstart.backbone.build import build_backbone
from headstart.backbone.packaged_source import packaged_weights
from headstart.backbone.params import BackboneParams
from headstart.backbone.torchvision_source import remove_classifier, torchvision_weights
from headstart.base.errors import BackboneError, DownloadError
from headstart.base.files import sha256_file
from tests.conftest import TINY, backbone_params
from tests.support.source import ROOT

PACKAGED = backbone_params("efficientnet_lite0")


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder without printing, with the headers that hub clients expect."""

    def end_headers(self) -> None:
        """Add them."""
        self.send_header("ETag", '"0123"')
        self.send_header("X-Repo-Commit", "0" * 40)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A local HTTP server for the folder `served`; gives its address."""
    (tmp_path / "served").mkdir()
    handler = partial(QuietHandler, directory=str(tmp_path / "served"))
    with HTTPServer(("127.0.0.1", 0), handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def torchvision_network(name: str) -> Any:
    """Build a torchvision network with seeded random weights, as torchvision's own published ones are built."""
    options: dict[str, Any] = {"transform_input": True, "init_weights": False} if name == "inception_v3" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.get_model(name, weights=None, **options)
    return network.eval().requires_grad_(False)


def file_params(name: str, network: torch.nn.Module, path: Path) -> BackboneParams:
    """Save a network's weights, by the suffix as safetensors or as a torch file; return the params that name it."""
    if path.suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    return backbone_params(name, path)


def forward(network: torch.nn.Module, px: int = 96) -> torch.Tensor:
    """Return what a network gives for two fixed pictures."""
    with torch.no_grad():
        result: torch.Tensor = network(torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(1)))
    return result


@pytest.mark.parametrize(
    ("name", "dim"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048), ("inception_v3", 2048)]
)
@pytest.mark.parametrize("source", ["safetensors", "pth", "url"])
def test_tutorial_networks_load_from_files_and_servers(
    tmp_path: Path, server: str, name: str, dim: int, source: str
) -> None:
    """The tutorials' networks load from a local file or a server, and give the input of their former classifier."""
    network = torchvision_network(name)
    if source == "url":
        params = file_params(name, network, tmp_path / "served" / "w.pth")
        params = params.model_copy(update={"weights": f"{server}/w.pth"})
    else:
        params = file_params(name, network, tmp_path / f"w.{source}")
    embeddings = forward(build_backbone(params).network)
    network.fc = torch.nn.Identity()
    expected = forward(network)

    assert embeddings.shape == (2, dim)
    assert (embeddings - expected).abs().max() < 1e-4 * expected.std()  # random networks give small numbers


def test_published_weights_come_from_their_address(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`weights: auto` fetches the default weights, checks the digest in their name, and keeps them for next time."""
    network = torchvision_network("resnet18")
    path = tmp_path / "served" / "w.pth"
    file_params("resnet18", network, path)
    named = path.rename(path.with_name(f"resnet18-{sha256_file(path)[:8]}.pth"))
    monkeypatch.setattr(
        torchvision_source, "torchvision_weights", lambda _: torchvision_weights(f"{server}/{named.name}")
    )
    params = backbone_params("resnet18")
    first = build_backbone(params)
    named.write_bytes(b"gone")
    second = build_backbone(params)

    assert torch.equal(forward(first.network), forward(second.network))
    network.fc = torch.nn.Identity()
    assert torch.equal(forward(first.network), forward(network))


def test_a_download_that_fails_says_what_to_do() -> None:
    """The error names the address, the place to put the file by hand, and the backbone that needs no download."""
    with pytest.raises(DownloadError) as caught:
        build_backbone(backbone_params("resnet50", published="IMAGENET1K_V1"))

    message = str(caught.value)
    assert "https://download.pytorch.org/models/resnet50-0676ba61.pth: cannot be fetched" in message
    assert "torch_home/hub/checkpoints/resnet50-0676ba61.pth, then run again" in message
    assert "efficientnet_lite0 needs no download" in message


HUB_CODE = """
from headstart.backbone.build import build_backbone
from tests.conftest import backbone_params
print(build_backbone(backbone_params("timm/test_resnet.r160_in1k")).facts.weights_sha256)
"""


def build_from_hub(address: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Build a timm backbone with `weights: auto` in a new process, with a local server in place of the hub."""
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", HUB_CODE], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )


@pytest.mark.slow
def test_hub_weights_are_fetched(tmp_path: Path, server: str, tiny_backbone: BackboneParams) -> None:
    """The published weights of timm come from the hub, and their digest is recorded."""
    file = tmp_path / "served" / "timm" / "test_resnet.r160_in1k" / "resolve" / "main" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(Path(tiny_backbone.weights).read_bytes())
    done = build_from_hub(server, tmp_path / "home")

    assert done.stdout.strip() == tiny_backbone.weights_sha256, done.stderr


@pytest.mark.slow
def test_a_hub_download_that_fails_says_what_to_do(tmp_path: Path, server: str) -> None:
    """If the hub does not have the file, the error says what to do instead."""
    done = build_from_hub(server, tmp_path / "home")

    assert done.returncode == 1
    assert "DownloadError: https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safet" in done.stderr
    assert "efficientnet_lite0 needs no download" in done.stderr


@pytest.mark.slow
def test_every_torchvision_classifier_gives_one_vector() -> None:
    """Without its classifier every network of torchvision gives one vector per image."""
    names = torchvision.models.list_models(module=torchvision.models)
    for name in [name for name in names if not name.startswith("regnet")]:  # these cannot be built without memory
        options: dict[str, Any] = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
        with torch.device("meta"):
            network = torchvision.models.get_model(name, weights=None, **options).eval()
            remove_classifier(network)
            px = torchvision.models.get_model_weights(name).DEFAULT.meta["min_size"][0]
            if name.startswith("vit_"):
                px = 224
            shape = network(torch.zeros(1, 3, max(px, 64), max(px, 64))).shape

        assert len(shape) == 2, name
        assert 256 < shape[1] != 1000, name


def test_timm_networks_load_from_a_file(tiny_backbone: BackboneParams) -> None:
    """A timm network gives the same features as in timm itself, BatchNorm statistics included."""
    network = timm.create_model(TINY.removeprefix("timm/"), num_classes=0).eval()
    tensors = load_file(tiny_backbone.weights)
    network.load_state_dict({name: tensors[name] for name in network.state_dict()})
    backbone = build_backbone(tiny_backbone)

    assert torch.equal(forward(backbone.network), forward(network))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: tensor * torch.nan, "conv1.0.weight has numbers that are not finite: the file is damaged"),
        (lambda tensor: tensor / 0, "conv1.0.weight has numbers that are not finite"),
        (lambda tensor: (tensor * 9).to(torch.int8), "conv1.0.weight is torch.int8; expected floating-point numbers"),
        (lambda tensor: tensor > 0, "conv1.0.weight is torch.bool; expected floating-point numbers"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(
    tiny_backbone: BackboneParams, tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    """A damaged or quantised weights file is an error that names the tensor, not embeddings without sense."""
    tensors = load_file(tiny_backbone.weights)
    save_file(tensors | {"conv1.0.weight": change(tensors["conv1.0.weight"])}, tmp_path / "w.safetensors")
    changes = {"weights": str(tmp_path / "w.safetensors"), "weights_sha256": sha256_file(tmp_path / "w.safetensors")}

    with pytest.raises(BackboneError, match=words):
        build_backbone(tiny_backbone.model_copy(update=changes))


def test_the_packaged_weights_are_in_their_places() -> None:
    """The packaged tensors have other names than timm's; first, middle and last ones end up in the right places."""
    backbone = build_backbone(PACKAGED)
    placed, packaged = backbone.network.state_dict(), packaged_weights("efficientnet_lite0").read()

    for ours, theirs in {
        "conv_stem.weight": "_conv_stem.weight",
        "bn1.running_var": "_bn0.running_var",
        "blocks.1.0.conv_pw.weight": "_blocks.1._expand_conv.weight",
        "blocks.4.2.bn2.running_mean": "_blocks.10._bn1.running_mean",
        "blocks.6.0.conv_pwl.weight": "_blocks.15._project_conv.weight",
        "conv_head.weight": "_conv_head.weight",
        "bn2.bias": "_bn1.bias",
    }.items():
        assert torch.equal(placed[ours], packaged[theirs]), ours


def test_a_backbone_is_frozen(tiny_backbone: BackboneParams) -> None:
    """Every module is in eval mode, and no parameter takes a gradient."""
    network = build_backbone(tiny_backbone).network

    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "words"),
    [("resnet8", "did you mean resnet1"), ("timm/resnet50x", "did you mean timm/resnet50"), ("qqqq", "not known")],
)
def test_unknown_names_get_near_ones(name: str, words: str) -> None:
    """The error for a misspelt backbone names similar ones."""
    with pytest.raises(BackboneError, match=words):
        build_backbone(backbone_params(name))


def test_unknown_published_weights_are_listed() -> None:
    """The error for misspelt published weights lists those that exist."""
    with pytest.raises(BackboneError, match="IMAGENET1K_V1, IMAGENET1K_V2"):
        build_backbone(backbone_params("resnet50", published="V1"))


def test_weights_of_another_network_are_refused(tmp_path: Path, tiny_backbone: BackboneParams) -> None:
    """A file that does not fit is refused with its name, never loaded in part."""
    with pytest.raises(BackboneError, match="tiny.safetensors: does not fit resnet18"):
        build_backbone(tiny_backbone.model_copy(update={"name": "resnet18"}))
    params = file_params("resnet18", torchvision_network("resnet18"), tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"w\.pth: does not fit timm/test_resnet"):
        build_backbone(params.model_copy(update={"name": TINY}))


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    """A file whose digest is not the one in params is refused."""
    params = file_params("resnet18", torchvision_network("resnet18"), tmp_path / "w.pth")
    with (tmp_path / "w.pth").open("ab") as file:
        file.write(b"x")

    with pytest.raises(BackboneError, match=r"w\.pth: sha256 is .*, expected"):
        build_backbone(params)


class Payload:
    """Runs a command when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_code_in_a_weights_file_is_never_run(tmp_path: Path, suffix: str) -> None:
    """A pickle with code is refused with a clear error, and the code does not run."""
    path = tmp_path / f"w{suffix}"
    torch.save({"fc.weight": Payload(tmp_path / "ran")}, path)

    with pytest.raises(BackboneError, match=f"w{suffix}"):
        build_backbone(backbone_params("resnet18", path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("px", "expected"), [("auto", 64), (96, 96)])
def test_px_is_resolved(px: int | str, expected: int) -> None:
    """`auto` follows the size of the images; a number is used as it is."""
    assert build_backbone(PACKAGED).facts.transform_for(px, median_short_side_px=8).crop_px == expected


@pytest.mark.slow
def test_px_that_a_network_does_not_take_is_refused(tmp_path: Path) -> None:
    """A side that is too small, or not the only one that a network takes, is an error that says what it takes."""
    params = file_params("inception_v3", torchvision_network("inception_v3"), tmp_path / "w.pth")
    with pytest.raises(BackboneError, match="inception_v3 needs at least 75"):
        build_backbone(params).facts.transform_for(64, 500)
    params = file_params("vit_b_16", torchvision_network("vit_b_16"), tmp_path / "w.pth")
    fixed = build_backbone(params).facts
    with pytest.raises(BackboneError, match="vit_b_16 takes 224 only"):
        fixed.transform_for(192, 500)
    assert fixed.transform_for("auto", 8).crop_px == 224
