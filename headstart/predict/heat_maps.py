"""Heat maps: which places of an image speak for its class, for convolutional networks.

A head that reads the mean of a map over its places is the mean of heads at the places. Its logit is therefore the mean
of a class activation map (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 2). The
map is exact and needs no gradient.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from headstart.artifacts.bundle import Bundle
from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.spec import transform_of
from headstart.predict.network import build_network
from headstart.tables.names import LAST_LAYER

_TOLERANCE = 1e-3
_HOT = (255, 60, 0)
_MAX_OPACITY = 0.65  # of the colour at the hottest place


class HeatMaps:
    """Class activation maps of a bundle, on the CPU, for one image at a time; `find_heat_maps` makes one."""

    def __init__(self, bundle: Bundle, network: EmbeddingNetwork, layer: str) -> None:
        self._network, self._outputs = network, list[torch.Tensor]()
        # Softmax sees only differences between classes, so compare each class with the mean of all.
        self._weight = bundle.weight - bundle.weight.mean(axis=0)
        self._px = transform_of(bundle.spec).crop_px
        network.network.get_submodule(layer).register_forward_hook(_append_output(self._outputs))

    def of(self, pixels: NDArray[np.uint8], column: int) -> NDArray[np.float32]:
        """Return how much each place speaks for a class, float32 (px, px) in [0, 1]; all 0 if no place does.

        Args:
            pixels: Image as the network sees it, uint8 (px, px, 3).
            column: Position of the class among the logits.
        """
        heat = np.einsum("d,dhw->hw", self._weight[column], self.activations(pixels)).clip(min=0)
        highest = heat.max()
        small = Image.fromarray((heat / highest if highest > 0 else heat).astype(np.float32))
        return np.asarray(small.resize((self._px, self._px), Image.Resampling.BILINEAR)).clip(0, 1)

    def activations(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the map whose mean the head reads, float32 (dim, h, w), of uint8 pixels (px, px, 3)."""
        self._outputs.clear()
        with torch.inference_mode():
            self._network(torch.from_numpy(pixels[None].copy()))
        return self._outputs[0][0].float().numpy()


def find_heat_maps(bundle: Bundle, weights: Path | None) -> HeatMaps | None:
    """Build a bundle's network and find the layer whose mean over the places is what the head reads.

    Args:
        bundle: A bundle that has been checked.
        weights: Weights file of the backbone, as for `build_network`.

    Returns:
        None if there is no such layer, as in transformers with a class token.

    Raises:
        BundleError: As `build_network`.
    """
    if bundle.spec["pooling"] != "mean":
        return None
    network = build_network(bundle, weights)
    px = transform_of(bundle.spec).crop_px
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, px, px, 3), dtype=np.uint8))
    names = (
        [bundle.layer] if bundle.layer != LAST_LAYER else [name for name, _ in network.network.named_modules() if name]
    )
    maps: dict[str, torch.Tensor] = {}
    handles = [network.network.get_submodule(name).register_forward_hook(_record_map(maps, name)) for name in names]
    with torch.inference_mode():
        (expected,) = network(pixels)
    for handle in handles:
        handle.remove()
    for name in reversed(list(maps)):
        means = maps[name].mean((2, 3))
        if means.shape == expected.shape and torch.allclose(means, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            return HeatMaps(bundle, network, name)
    return None


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """Return an image in gray with its heat map over it in colour.

    Args:
        pixels: uint8 (px, px, 3).
        heat: float32 (px, px) in [0, 1].
    """
    opacity = (_MAX_OPACITY * heat)[..., None]
    gray = pixels.mean(axis=2, keepdims=True)  # the only colour is then that of the heat
    return Image.fromarray((gray * (1 - opacity) + np.array(_HOT) * opacity).round().astype(np.uint8))


def _append_output(outputs: list[torch.Tensor]) -> Callable[[nn.Module, object, torch.Tensor], None]:
    def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
        outputs.append(output.clone())

    return hook


def _record_map(maps: dict[str, torch.Tensor], name: str) -> Callable[[nn.Module, object, object], None]:
    def hook(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            maps[name] = output.clone()

    return hook
