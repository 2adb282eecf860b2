"""A transform gives a network the input that its weights were trained on."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from headstart.backbone.build import build_backbone
from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.params import BackboneParams
from headstart.imaging.transform import MAX_ENLARGEMENT, Transform, choose_px
from tests.conftest import TINY, backbone_params

RANDOM = np.random.default_rng(0)
PHOTO = Image.fromarray(RANDOM.integers(0, 256, size=(300, 401, 3), dtype=np.uint8))


def saved(network: torch.nn.Module, path: Path, name: str) -> BackboneParams:
    """Save the random weights of a network, and return params that name them."""
    save_file(network.state_dict(), path)
    return backbone_params(name, path)


class Flat(nn.Module):
    """A network that returns its input, flattened."""

    def forward(self, inputs_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the input as rows."""
        return inputs_BCHW.flatten(1)


def network_input(transform: Transform, image: Image.Image) -> torch.Tensor:
    """Return the input that the first layer of a network gets for an image, float32 (3, px, px)."""
    (inputs,) = EmbeddingNetwork(Flat(), transform, ["last"], "mean")(
        torch.from_numpy(transform.pixels(image).copy())[None]
    )
    return inputs.reshape(3, transform.crop_px, transform.crop_px)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "squeezenet1_1", "inception_v3"])
def test_torchvision_networks_see_their_own_transform(tmp_path: Path, name: str) -> None:
    """The pixels equal those of torchvision's own transform for the weights, bit for bit."""
    options = {"init_weights": False} if name == "inception_v3" else {}
    network = torchvision.models.get_model(name, weights=None, **options)
    transform = build_backbone(saved(network, tmp_path / "w.safetensors", name)).facts.transform
    expected = torchvision.models.get_model_weights(name).DEFAULT.transforms()(PHOTO)

    assert torch.equal(network_input(transform, PHOTO), expected)


@pytest.mark.parametrize("architecture", [TINY.removeprefix("timm/"), "tf_efficientnet_lite0"])
def test_timm_networks_see_their_own_transform(tmp_path: Path, architecture: str) -> None:
    """The pixels equal those of timm's own evaluation transform."""
    network = timm.create_model(architecture)
    transform = build_backbone(saved(network, tmp_path / "w.safetensors", f"timm/{architecture}")).facts.transform
    own = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))

    assert torch.allclose(network_input(transform, PHOTO), own(PHOTO), atol=1e-6)


def test_the_packaged_network_sees_224_px() -> None:
    """EfficientNet-Lite0 gets pictures of 224 px, resized with the bicubic filter and scaled to [-1, 1]."""
    transform = build_backbone(backbone_params("efficientnet_lite0")).facts.transform
    white = Image.new("RGB", (500, 300), (255, 255, 255))

    assert (transform.resize_px, transform.crop_px, transform.interpolation) == (256, 224, "bicubic")
    assert torch.equal(network_input(transform, white), torch.ones(3, 224, 224))


@pytest.mark.parametrize(("short_side", "expected"), [(8, 64), (16, 128), (28, 224), (32, 224), (300, 224), (1, 32)])
def test_auto_enlarges_at_most_eightfold(short_side: int, expected: int) -> None:
    """With `auto`, photos get the native side of the weights, and 8-pixel digits get 64 px."""
    assert choose_px(224, 32, short_side) == expected


@given(st.integers(32, 600), st.integers(1, 32), st.floats(4, 5000))
def test_auto_is_never_larger_than_native_nor_blurred(native: int, minimum: int, short_side: float) -> None:
    """The side is between the network's smallest and the native one, and limits how far images are enlarged."""
    chosen = choose_px(native, minimum, short_side)

    assert min(native, 32) <= chosen <= native
    assert chosen <= max(MAX_ENLARGEMENT * short_side, 32)


@given(st.integers(16, 300))
def test_other_sides_show_the_same_part_of_the_picture(px: int) -> None:
    """At another side, the same fraction of the picture is cropped away, within a pixel."""
    native = Transform(256, 224, squash=False, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
    transform = native.at(px)

    assert transform.pixels(PHOTO).shape == (px, px, 3)
    assert abs(transform.resize_px - px * 256 / 224) <= 0.5
