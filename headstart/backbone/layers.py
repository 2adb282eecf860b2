"""Layers: a frozen network returns the outputs of several of its layers in one forward pass, each as one vector."""

import difflib
import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from headstart.backbone.blocks import default_layers, output_shapes
from headstart.backbone.pooling import POOLINGS
from headstart.base.errors import BackboneError
from headstart.imaging.transform import Transform
from headstart.tables.names import LAST_LAYER


class LayerReader:
    """Reads the outputs of several layers of a network in one forward pass, each pooled to one vector.

    Attributes:
        layers: Names of the layers in the order in which they run. `last`, the output of the network, comes at the end.
        dims: Number of values of each layer's embedding, by layer.

    Args:
        network: Network that turns float32 (B, 3, px, px) into float32 (B, dim). It keeps its hooks.
        px: Side of the pictures.
        layers: Names of modules, or `last`, in any order; or `auto` for `default_layers`.
        pooling: Name of an entry of `POOLINGS`.

    Raises:
        BackboneError: The network has no such module, or the pooling does not take its output.
    """

    def __init__(self, network: nn.Module, px: int, layers: Sequence[str] | str, pooling: str) -> None:
        self._network, self._pooling = network, pooling
        self._num_prefix_tokens = int(getattr(network, "num_prefix_tokens", hasattr(network, "class_token")))
        self._outputs: dict[str, torch.Tensor] = {}
        shapes = output_shapes(network, px, px)
        if isinstance(layers, str):
            layers = default_layers(network, shapes)
        self.layers = _in_order(network, layers, shapes)
        self._channels_last = _channels_last(network, self.layers, shapes, px)
        for name in self.layers[:-1] if self.layers[-1] == LAST_LAYER else self.layers:
            network.get_submodule(name).register_forward_hook(self._keep(name))
        with torch.inference_mode():
            self.dims = {name: rows.shape[1] for name, rows in self.read(torch.zeros(1, 3, px, px)).items()}

    def read(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the network. Return float32 (B, dim) of each layer, by name; of removed layers nothing.

        Args:
            inputs: float32 (B, 3, px, px), or what the network takes if its first layers are removed.
        """
        self._outputs[LAST_LAYER] = self._network(inputs)
        found = self.kept()
        return {name: found[name] for name in self.layers if name in found}

    def kept(self) -> dict[str, torch.Tensor]:
        """Return float32 (B, dim) of the layers that have run since the last call, by name."""
        found = {name: rows.float() for name, rows in self._outputs.items()}
        self._outputs.clear()
        return found

    def _keep(self, name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
            # Pooled here, because the next layer may overwrite the output, and to keep no map longer than needed.
            self._outputs[name] = self._pool(name, output).clone()

        return hook

    def _pool(self, name: str, output: torch.Tensor) -> torch.Tensor:
        shape = output.shape
        if len(shape) == 2:
            return output
        pooling = POOLINGS[self._pooling]
        if len(shape) == 3 and pooling.of_tokens is not None:
            num_prefix_tokens = _num_prefix_tokens_among(shape[1], self._num_prefix_tokens)
            if num_prefix_tokens or not pooling.needs_class_token:
                return pooling.of_tokens(output, num_prefix_tokens)
        if len(shape) == 4 and pooling.of_map is not None:
            return pooling.of_map(output, (1, 2) if name in self._channels_last else (2, 3))
        raise BackboneError(
            f"backbone.layers: {name} gives shape {tuple(shape)[1:]} per image, which backbone.pooling {self._pooling} "
            f"does not take; expected {pooling.inputs}. Choose another layer or pooling."
        )


class EmbeddingNetwork(nn.Module):
    """Turns pictures into the embeddings of several layers: normalisation, frozen network, pooling.

    Attributes:
        layers: Names of the layers in the order in which they run. `last`, the output of the network, comes at the end.
        dims: Number of values of each layer's embedding, by layer.

    Args:
        network: Frozen network. It turns float32 (B, 3, px, px) into float32 (B, dim).
        transform: Gives the side of the pictures, and the mean and standard deviation of each channel.
        layers: As for `LayerReader`.
        pooling: As for `LayerReader`.

    Raises:
        BackboneError: The network has no such module, or the pooling does not take its output.
    """

    def __init__(self, network: nn.Module, transform: Transform, layers: Sequence[str] | str, pooling: str) -> None:
        super().__init__()
        self.network = network
        self._normalise = Normalisation(transform)
        self._reader = LayerReader(network, transform.crop_px, layers, pooling)
        self.layers, self.dims = self._reader.layers, self._reader.dims

    def forward(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Turn uint8 pixels (B, px, px, 3) into float32 (B, dim) for each layer, in the order of `layers`."""
        return tuple(self._reader.read(self._normalise(pixels_BHWC)).values())


class Normalisation(nn.Module):
    """Normalisation, the last step of a transform: scales pixels to [0, 1] and standardises each channel.

    Args:
        transform: Gives the mean and the standard deviation of each channel.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self._mean: torch.Tensor
        self._std: torch.Tensor
        self.register_buffer("_mean", torch.tensor(transform.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(transform.std).reshape(3, 1, 1), persistent=False)

    def forward(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        """Turn uint8 pixels (B, px, px, 3) into float32 (B, 3, px, px)."""
        # `permute` moves no bytes and leaves a channels-last tensor, the faster layout for convolutions.
        scaled = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32) / 255
        return (scaled - self._mean) / self._std


def _num_prefix_tokens_among(num_tokens: int, num_prefix_tokens: int) -> int:
    """Return how many tokens of a layer stand for no patch, such as the class token.

    A network may add its class token late (CaiT) or never. Pictures are square, so the number of patches is a square
    number. If the layer has a square number of tokens, and fewer tokens would be no square number, all are patches.

    Args:
        num_tokens: Number of tokens of the layer.
        num_prefix_tokens: Number of tokens that stand for no patch at the end of the network.
    """

    def is_square(number: int) -> bool:
        return number > 0 and math.isqrt(number) ** 2 == number

    return 0 if is_square(num_tokens) and not is_square(num_tokens - num_prefix_tokens) else num_prefix_tokens


def _channels_last(
    network: nn.Module, layers: Sequence[str], shapes: dict[str, tuple[int, ...]], px: int
) -> frozenset[str]:
    """Return the layers whose maps are (B, H, W, D), as in Swin, and not (B, D, H, W).

    Pictures are square, so the two equal sides of a map are H and W. If D is equal to them, the shapes for a wider
    picture show which side is D.

    Raises:
        BackboneError: The network takes no wider picture.
    """
    maps = [name for name in layers if len(shapes.get(name, ())) == 4]
    unclear = [name for name in maps if len(set(shapes[name][1:])) == 1]
    wide: dict[str, tuple[int, ...]] = {}
    if unclear:
        try:
            wide = output_shapes(network, px, 2 * px)
        except BackboneError as error:
            raise BackboneError(
                f"backbone.layers: {unclear[0]} gives shape {shapes[unclear[0]][1:]} per image, so channels and places "
                "cannot be told apart; choose another layer or transform.px"
            ) from error
    return frozenset(
        name
        for name in maps
        if (wide[name][3] == shapes[name][3] if name in wide else shapes[name][2] != shapes[name][3])
    )


def _in_order(network: nn.Module, layers: Sequence[str], shapes: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the layers without repetition, in the order in which they finish, after checking them."""
    names = [name for name, _ in network.named_modules() if name]
    for layer in layers:
        if layer != LAST_LAYER and shapes.get(layer, (1,))[0] != 1:
            raise BackboneError(
                f"backbone.layers: {layer} cuts pictures into parts, so it gives no vector per image. "
                "Choose another layer."
            )
        if layer != LAST_LAYER and layer not in shapes:
            if layer in names:
                raise BackboneError(
                    f"backbone.layers: {layer} gives no tensor in a forward pass; choose a layer around it"
                )
            near = difflib.get_close_matches(layer, [LAST_LAYER, *shapes], n=5, cutoff=0.4)
            raise BackboneError(
                f"backbone.layers: {layer!r} is no module of this network; near ones are {', '.join(near) or 'none'} "
                f"(auto takes {', '.join(default_layers(network, shapes))})"
            )
    order = [*shapes, LAST_LAYER]
    return tuple(sorted(set(layers), key=order.index))
