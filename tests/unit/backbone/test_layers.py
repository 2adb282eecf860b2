"""Layers: which ones are read, in which order, and how their outputs become vectors."""

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from headstart.backbone.blocks import default_layers, output_shapes
from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.torchvision_source import remove_classifier
from headstart.base.errors import BackboneError
from headstart.imaging.transform import Transform

PLAIN = Transform(64, 64, squash=False, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


def small_network() -> Any:
    """Build a tiny frozen ResNet."""
    return timm.create_model("test_resnet", num_classes=0).eval().requires_grad_(False)


def small_transformer(**options: Any) -> Any:
    """Build a tiny frozen vision transformer."""
    return timm.create_model("test_vit", num_classes=0, img_size=64, **options).eval().requires_grad_(False)


def pixels(px: int = 64) -> torch.Tensor:
    """Return two fixed pictures."""
    return torch.randint(0, 256, (2, px, px, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_layers_come_in_the_networks_order() -> None:
    """Layers come in the order of the network, each once and `last` at the end, in whatever order they are named."""
    network = EmbeddingNetwork(small_network(), PLAIN, ["last", "layer3", "layer1", "layer3"], "mean")

    assert network.layers == ("layer1", "layer3", "last")
    assert list(network.dims) == ["layer1", "layer3", "last"]
    assert network.dims["last"] == 96


def test_a_layer_is_the_mean_over_the_map() -> None:
    """The map of a convolution is averaged over height and width; the last layer is the output of the network."""
    plain = small_network()
    maps: list[torch.Tensor] = []
    plain.layer2.register_forward_hook(lambda _, __, output: maps.append(output))
    with torch.inference_mode():
        layer2, last = EmbeddingNetwork(plain, PLAIN, ["layer2", "last"], "mean")(pixels())
        expected = plain(pixels().permute(0, 3, 1, 2) / 127.5 - 1)

    assert torch.allclose(layer2, maps[-1].mean((2, 3)), atol=1e-5)
    assert torch.allclose(last, expected, atol=1e-5)


@pytest.mark.parametrize("flattens_first", [False, True], ids=["map", "vector"])
def test_a_layer_is_read_before_the_next_layer_works_in_place(flattens_first: bool) -> None:
    """Many networks overwrite a layer's output with its ReLU; the embedding is the output before that."""

    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.relu = nn.Flatten() if flattens_first else nn.Identity(), nn.ReLU(inplace=True)

        def forward(self, inputs_BCHW: torch.Tensor) -> torch.Tensor:
            return self.relu(self.body(inputs_BCHW)).flatten(1)

    body, last = EmbeddingNetwork(InPlace(), PLAIN, ["body", "last"], "mean")(pixels())
    scaled = pixels().permute(0, 3, 1, 2) / 127.5 - 1

    assert torch.allclose(body, scaled.flatten(1) if flattens_first else scaled.mean((2, 3)), atol=1e-4)
    assert (body < 0).any()
    assert (last >= 0).all()


def test_layers_without_a_vector_per_image_are_refused() -> None:
    """A layer that cuts pictures into windows is an error, and so is the class token of a network that has none."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Identity()

        def forward(self, inputs_BCHW: torch.Tensor) -> torch.Tensor:
            batch = len(inputs_BCHW)
            return self.body(inputs_BCHW.reshape(batch * 4, -1, 8)).reshape(batch, -1)

    with pytest.raises(BackboneError, match="body cuts pictures into parts"):
        EmbeddingNetwork(Windows(), PLAIN, ["body"], "mean")
    mixer: Any = timm.create_model("mixer_s32_224", num_classes=0).eval()
    with pytest.raises(BackboneError, match=r"blocks\.3 gives shape .*a network with a class token"):
        EmbeddingNetwork(mixer, PLAIN.at(224), ["blocks.3"], "token")


@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_tokens_are_averaged_or_the_class_token_taken(pooling: str) -> None:
    """Tokens are averaged without the class token, or the class token is taken."""
    plain = small_transformer()
    blocks: list[torch.Tensor] = []
    name = [name for name, _ in plain.named_modules() if name.startswith("blocks.") and name.count(".") == 1][-1]
    plain.get_submodule(name).register_forward_hook(lambda _, __, output: blocks.append(output))
    with torch.inference_mode():
        layer, _ = EmbeddingNetwork(plain, PLAIN, [name, "last"], pooling)(pixels())
    assert plain.num_prefix_tokens == 1

    assert torch.allclose(layer, blocks[-1][:, 1:].mean(1) if pooling == "mean" else blocks[-1][:, 0], atol=1e-6)


def test_channels_last_maps_are_averaged_over_places() -> None:
    """Maps with the channels last, as in Swin, are averaged over height and width too."""

    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Identity()

        def forward(self, inputs_BCHW: torch.Tensor) -> torch.Tensor:
            return self.body(inputs_BCHW.permute(0, 2, 3, 1)).flatten(1)

    body, _ = EmbeddingNetwork(ChannelsLast(), PLAIN, ["body", "last"], "mean")(pixels())

    assert torch.allclose(body, pixels().float().mean((1, 2)) / 127.5 - 1, atol=1e-4)


@pytest.mark.parametrize("channels_last", [False, True])
def test_as_many_channels_as_places_are_not_confused(channels_last: bool) -> None:
    """A map with three equal sides is averaged over height and width, or refused if these cannot be told apart."""

    class Cube(nn.Module):
        fixed_px = False

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Identity()

        def forward(self, inputs_BCHW: torch.Tensor) -> torch.Tensor:
            assert not self.fixed_px or inputs_BCHW.shape[3] == 64
            channels = inputs_BCHW[:, :1] * torch.linspace(0, 1, 64).reshape(1, 64, 1, 1)
            return self.body(channels.permute(0, 2, 3, 1) if channels_last else channels).flatten(1)

    body, _ = EmbeddingNetwork(Cube(), PLAIN, ["body", "last"], "mean")(pixels())
    gray = pixels()[..., 0].float().mean((1, 2)) / 127.5 - 1

    assert torch.allclose(body, gray[:, None] * torch.linspace(0, 1, 64), atol=1e-4)
    Cube.fixed_px = True
    with pytest.raises(BackboneError, match=r"body gives shape \(64, 64, 64\).*cannot be told apart"):
        EmbeddingNetwork(Cube(), PLAIN, ["body"], "mean")


def test_layers_without_the_class_token_lose_no_patch() -> None:
    """Of a layer before the class token joins, every patch is averaged, and the class token cannot be taken."""
    plain: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, depth=1).eval()
    patches: list[torch.Tensor] = []
    plain.patch_embed.register_forward_hook(lambda _, __, output: patches.append(output))
    with torch.inference_mode():
        layer, _ = EmbeddingNetwork(plain, PLAIN, ["patch_embed", "last"], "mean")(pixels())

    assert torch.allclose(layer, patches[-1].mean(1), atol=1e-6)
    with pytest.raises(BackboneError, match="patch_embed gives shape"):
        EmbeddingNetwork(plain, PLAIN, ["patch_embed"], "token")


def test_a_wrong_name_gets_near_ones() -> None:
    """The error for a misspelt layer names similar modules and the layers that `auto` takes."""
    with pytest.raises(BackboneError, match=r"'layr2' is no module of this network; near ones are .*layer2.*auto"):
        EmbeddingNetwork(small_network(), PLAIN, ["layr2"], "mean")


def test_a_layer_that_cannot_be_pooled_is_refused() -> None:
    """Asking for the class token of a map is an error that says what was found and what is expected."""
    with pytest.raises(BackboneError, match=r"layer2 gives shape \(\d+, \d+, \d+\) per image.*token"):
        EmbeddingNetwork(small_network(), PLAIN, ["layer2"], "token")


DEFAULTS = {
    "resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "resnet50": ["layer1", "layer2", "layer3", "layer4"],
    "inception_v3": ["Mixed_5b", "Mixed_6a", "Mixed_6c", "Mixed_6e", "Mixed_7c"],
    "squeezenet1_1": ["features.6", "features.7", "features.10", "features.11", "features.12"],
    "densenet121": [f"features.{name}" for name in ("transition1", *(f"denseblock{n}" for n in (2, 3, 4)), "norm5")],
    "vgg11": ["features.6", "features.8", "features.11", "features.16", "features.18"],
    "efficientnet_b0": ["features.3", "features.4", "features.6", "features.7", "features.8"],
    "swin_t": ["features.2", "features.3", "features.4", "features.6", "features.7"],
    "maxvit_t": ["blocks.0", "blocks.1", "blocks.2", "blocks.3"],
    "vit_b_16": [f"encoder.layers.encoder_layer_{number}" for number in (4, 6, 8, 9, 11)],
    "timm/tf_efficientnet_lite0": ["blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6"],
    "timm/vit_tiny_patch16_224": ["blocks.4", "blocks.6", "blocks.8", "blocks.9", "blocks.11"],
    "timm/convnext_atto": ["stages.1", "stages.2", "stages.3"],
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_layers_span_the_depth(name: str) -> None:
    """By default about five blocks of the last two thirds of the network are read, and the last layer."""
    if name.startswith("timm/"):
        network: Any = timm.create_model(name.removeprefix("timm/"), num_classes=0)
    else:
        options: dict[str, Any] = {"init_weights": False} if name == "inception_v3" else {}
        network = torchvision.models.get_model(name, weights=None, **options)
        remove_classifier(network)

    assert default_layers(network, output_shapes(network.eval(), 224, 224)) == [*DEFAULTS[name], "last"]
