"""Heat maps: where in a picture a convolutional network sees its class.

A head that reads the mean of a map over its places is a mean of heads at the places, so its logit is the mean of a
class activation map (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 2): exact,
without a gradient.
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
_STRONGEST = 0.65  # so much of the colour covers the hottest place


class HeatMaps:
    """Class activation maps of a bundle; get one from `find_heat_maps`. On the CPU, one picture at a time."""

    def __init__(self, bundle: Bundle, network: EmbeddingNetwork, layer: str) -> None:
        self._network, self._kept = network, list[torch.Tensor]()
        # Softmax sees differences only: what raises a class above the mean of all.
        self._weight = bundle.weight - bundle.weight.mean(axis=0)
        self._px = transform_of(bundle.spec).crop_px
        network.network.get_submodule(layer).register_forward_hook(_keeper(self._kept))

    def of(self, pixels: NDArray[np.uint8], column: int) -> NDArray[np.float32]:
        """Return how much each place speaks for a class, float32 (px, px) in [0, 1]; all 0 where none does.

        Args:
            pixels: uint8 (px, px, 3), as the network sees the picture.
            column: Number of the class.
        """
        found = np.einsum("d,dhw->hw", self._weight[column], self.activations(pixels)).clip(min=0)
        highest = found.max()
        small = Image.fromarray((found / highest if highest > 0 else found).astype(np.float32))
        return np.asarray(small.resize((self._px, self._px), Image.Resampling.BILINEAR)).clip(0, 1)

    def activations(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the map whose mean the head reads, float32 (dim, h, w), of uint8 pixels (px, px, 3)."""
        self._kept.clear()
        with torch.inference_mode():
            self._network(torch.from_numpy(pixels[None].copy()))
        return self._kept[0][0].float().numpy()


def find_heat_maps(bundle: Bundle, weights: Path | None) -> HeatMaps | None:
    """Build a bundle's network and find the map whose mean its head reads; None if there is none (transformers).

    Raises:
        BundleError: As `build_network`.
    """
    network = build_network(bundle, weights)
    if bundle.spec["pooling"] != "mean":
        return None
    px = transform_of(bundle.spec).crop_px
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, px, px, 3), dtype=np.uint8))
    names = (
        [bundle.layer] if bundle.layer != LAST_LAYER else [name for name, _ in network.network.named_modules() if name]
    )
    maps: dict[str, torch.Tensor] = {}
    handles = [network.network.get_submodule(name).register_forward_hook(_recorder(maps, name)) for name in names]
    with torch.inference_mode():
        (expected,) = network(pixels)
    for handle in handles:
        handle.remove()
    for name in reversed(list(maps)):
        found = maps[name].mean((2, 3))
        if found.shape == expected.shape and torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            return HeatMaps(bundle, network, name)
    return None


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """Return a picture with its heat map over it.

    Args:
        pixels: uint8 (px, px, 3).
        heat: (px, px) in [0, 1].
    """
    share = (_STRONGEST * heat)[..., None]
    gray = pixels.mean(axis=2, keepdims=True)  # so that colour is heat and nothing else
    return Image.fromarray((gray * (1 - share) + np.array(_HOT) * share).round().astype(np.uint8))


def _keeper(kept: list[torch.Tensor]) -> Callable[[nn.Module, object, torch.Tensor], None]:
    def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
        kept.append(output.clone())

    return hook


def _recorder(maps: dict[str, torch.Tensor], name: str) -> Callable[[nn.Module, object, object], None]:
    def hook(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            maps[name] = output.clone()

    return hook
