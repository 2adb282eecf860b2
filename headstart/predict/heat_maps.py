"""Heat maps: which places of an image speak for its class, for convolutional networks.

A head that reads the mean of a map over its places is the mean of heads at the places. Its logit is therefore the mean
of a class activation map (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 2). The
map is exact and needs no gradient.
"""

from collections.abc import Callable, Mapping, Sequence
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

    def __init__(self, bundle: Bundle, network: EmbeddingNetwork, modules: Sequence[str]) -> None:
        self._network, self._outputs = network, dict[str, torch.Tensor]()
        # Softmax sees only differences between classes, so compare each class with the mean of all.
        weight = bundle.weight - bundle.weight.mean(axis=0)
        self._weights = np.split(weight, np.cumsum(bundle.dims)[:-1], axis=1)
        self._px, self._modules = transform_of(bundle.spec).crop_px, modules
        for name in dict.fromkeys(modules):
            network.network.get_submodule(name).register_forward_hook(_record_map(self._outputs, name))

    def of(self, pixels: NDArray[np.uint8], column: int) -> NDArray[np.float32]:
        """Return how much each place speaks for a class, float32 (px, px) in [0, 1]; all 0 if no place does.

        The maps of several layers are enlarged to the same size and added, as the head adds their logits.

        Args:
            pixels: Image as the network sees it, uint8 (px, px, 3).
            column: Position of the class among the logits.
        """
        total = np.zeros((self._px, self._px), dtype=np.float32)
        for weight, output in zip(self._weights, self.activations(pixels), strict=True):
            small = Image.fromarray(np.einsum("d,dhw->hw", weight[column], output).astype(np.float32))
            total += np.asarray(small.resize((self._px, self._px), Image.Resampling.BILINEAR))
        heat = total.clip(min=0)
        highest = heat.max()
        return heat / highest if highest > 0 else heat

    def activations(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the map of each layer whose mean the head reads, float32 (dim, h, w), of pixels uint8 (px, px, 3)."""
        with torch.inference_mode():
            self._network(torch.from_numpy(pixels[None].copy()))
        return [self._outputs[name][0].float().numpy() for name in self._modules]


def find_heat_maps(bundle: Bundle, weights: Path | None) -> HeatMaps | None:
    """Build a bundle's network and find the modules whose means over the places are what the head reads.

    Args:
        bundle: A bundle that has been checked.
        weights: Weights file of the backbone, as for `build_network`.

    Returns:
        None if there are no such modules, as in transformers with a class token.

    Raises:
        BundleError: As `build_network`.
    """
    if bundle.spec["pooling"] != "mean":
        return None
    network = build_network(bundle, weights)
    px = transform_of(bundle.spec).crop_px
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, px, px, 3), dtype=np.uint8))
    names = [name for name, _ in network.network.named_modules() if name]
    maps: dict[str, torch.Tensor] = {}
    handles = [network.network.get_submodule(name).register_forward_hook(_record_map(maps, name)) for name in names]
    with torch.inference_mode():
        embeddings = dict(zip(network.layers, network(pixels), strict=True))
    for handle in handles:
        handle.remove()
    modules = [_module_of(layer, embeddings[layer], maps) for layer in bundle.layers]
    found = [name for name in modules if name is not None]
    return HeatMaps(bundle, network, found) if len(found) == len(modules) else None


def _module_of(layer: str, embedding: torch.Tensor, maps: Mapping[str, torch.Tensor]) -> str | None:
    """Return the module whose mean over the places is the embedding of a layer. None: there is no such module."""
    for name in reversed(list(maps)) if layer == LAST_LAYER else [layer] if layer in maps else []:
        means = maps[name].mean((2, 3))
        if means.shape == embedding.shape and torch.allclose(means, embedding, rtol=_TOLERANCE, atol=_TOLERANCE):
            return name
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


def _record_map(maps: dict[str, torch.Tensor], name: str) -> Callable[[nn.Module, object, object], None]:
    def hook(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            maps[name] = output.clone()

    return hook
