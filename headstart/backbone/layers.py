"""Layers: the layers of a frozen network that are read, all in one forward pass, each pooled to one vector."""

import difflib
import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from headstart.backbone.pooling import POOLINGS
from headstart.base.errors import BackboneError
from headstart.imaging.transform import Transform
from headstart.tables.names import LAST_LAYER

# Widths go from tens to thousands; five layers cost little beside the network and show where the curve peaks.
_NUM_DEFAULT_LAYERS = 5
# A child that holds this much of its parent's layers is the trunk: its children are the stages.
_TRUNK_FRACTION = 0.8


class EmbeddingNetwork(nn.Module):
    """A frozen network with its transform's last steps before it and its layers' pooling behind it.

    Attributes:
        layers: In the network's order, `last` (what the network itself returns) at the end.
        dims: Width of each.

    Args:
        network: Returns (B, dim) for float32 (B, 3, px, px).
        transform: Gives mean, std and the side of the pictures.
        layers: Names of modules, or `last`, in any order; or `auto` for `default_layers`.
        pooling: `mean` over places or tokens, or `token`, the class token of a transformer.

    Raises:
        BackboneError: No such module, or one whose output cannot be pooled so.
    """

    def __init__(self, network: nn.Module, transform: Transform, layers: Sequence[str] | str, pooling: str) -> None:
        super().__init__()
        self.network = network
        self._pooling = pooling
        self._num_prefix_tokens = int(getattr(network, "num_prefix_tokens", hasattr(network, "class_token")))
        self._normalise = Normalisation(transform)
        self._outputs: dict[str, torch.Tensor] = {}
        px = transform.crop_px
        shapes = _output_shapes(network, px, px)
        if isinstance(layers, str):
            layers = default_layers(network, shapes)
        self.layers = _in_order(network, layers, shapes)
        self._channels_last = _channels_last(network, self.layers, shapes, px)
        for name in self.layers[:-1] if self.layers[-1] == LAST_LAYER else self.layers:
            network.get_submodule(name).register_forward_hook(self._keep(name))
        blank = torch.zeros(1, px, px, 3, dtype=torch.uint8)
        with torch.inference_mode():
            self.dims = {name: rows.shape[1] for name, rows in zip(self.layers, self(blank), strict=True)}

    def forward(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return float32 (B, dim) for each layer, of uint8 pixels (B, px, px, 3)."""
        self._outputs[LAST_LAYER] = self.network(self._normalise(pixels_BHWC))
        return tuple(self._outputs.pop(name).float() for name in self.layers)

    def _keep(self, name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
            # Now, because the next layer may work in place; and so no map is kept longer than needed.
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


class Normalisation(nn.Module):
    """The last step of a transform: scales pixels to [0, 1], subtracts each channel's mean, divides by its deviation.

    Args:
        transform: Has the mean and the standard deviation of each channel.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self._mean: torch.Tensor
        self._std: torch.Tensor
        self.register_buffer("_mean", torch.tensor(transform.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(transform.std).reshape(3, 1, 1), persistent=False)

    def forward(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, 3, px, px) of uint8 pixels (B, px, px, 3)."""
        # A view of pixels in this order is a channels-last tensor: the faster layout for convolutions, at no cost.
        scaled = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32) / 255
        return (scaled - self._mean) / self._std


def default_layers(network: nn.Module, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Return the layers for `backbone.layers: auto`: at most 5 blocks over the last two thirds of depth, and `last`.

    The first third is left out: it sees edges and colours of any picture.

    Args:
        network: Any.
        shapes: Output shape of every module that ran, by name, in the order of the forward pass.
    """
    names = _blocks(network, shapes)
    start, end = len(names) // 3, len(names) - 1
    chosen = {round(start + (end - start) * step / (_NUM_DEFAULT_LAYERS - 1)) for step in range(_NUM_DEFAULT_LAYERS)}
    return [names[position] for position in sorted(chosen) if names] + [LAST_LAYER]


def blocks_of(network: nn.Module, px: int) -> list[str]:
    """Return the names of a network's blocks, by depth.

    Args:
        network: Returns (B, dim).
        px: Side of its pictures.

    Raises:
        BackboneError: It takes no such pictures.
    """
    return _blocks(network, _output_shapes(network, px, px))


def _blocks(network: nn.Module, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """The blocks are the children of the trunk, the module that holds most layers that work on maps or tokens."""

    def num_params(name: str, module: nn.Module) -> int:
        inner = [(f"{name}.{child}" if name else child, layer) for child, layer in module.named_modules() if child]
        layers = [(name, module), *inner]
        return sum(
            parameter.numel()
            for place, layer in layers
            if len(shapes.get(place, ())) in (3, 4)
            for parameter in layer.parameters(recurse=False)
        )

    def blocks(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
        named = []
        for child, layer in module.named_children():
            place = f"{name}.{child}" if name else child
            named += blocks(place, layer) if isinstance(layer, nn.ModuleList) else [(place, layer)]  # never runs itself
        ran = [(child, layer) for child, layer in named if len(shapes.get(child, ())) in (3, 4)]
        return [(child, layer) for child, layer in ran if num_params(child, layer)]

    trunk, found = ("", network), blocks("", network)
    while found:
        largest = max(found, key=lambda block: num_params(*block))
        inner = blocks(*largest)
        if len(inner) < 2 or num_params(*largest) < _TRUNK_FRACTION * num_params(*trunk):
            break
        trunk, found = largest, inner
    order = list(shapes)
    return sorted((name for name, _ in found), key=order.index)


def _num_prefix_tokens_among(num_tokens: int, num_prefix_tokens: int) -> int:
    """Return how many of a layer's tokens are no patches; 0 where the class token joins only later (CaiT) or never.

    The picture is square, so the number of patches is a square.
    """

    def is_square(number: int) -> bool:
        return number > 0 and math.isqrt(number) ** 2 == number

    return 0 if is_square(num_tokens) and not is_square(num_tokens - num_prefix_tokens) else num_prefix_tokens


def _channels_last(
    network: nn.Module, layers: Sequence[str], shapes: dict[str, tuple[int, ...]], px: int
) -> frozenset[str]:
    """Return the layers whose maps have their channels behind the places, as in Swin.

    The picture is square, so the two equal sides are places. Where channels are as many, another picture, not square,
    tells them apart.

    Raises:
        BackboneError: It does not: the network takes no such picture.
    """
    maps = [name for name in layers if len(shapes.get(name, ())) == 4]
    unclear = [name for name in maps if len(set(shapes[name][1:])) == 1]
    wide: dict[str, tuple[int, ...]] = {}
    if unclear:
        try:
            wide = _output_shapes(network, px, 2 * px)
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


def _output_shapes(network: nn.Module, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the output shape of every module that ran and gave a tensor, in the order of finishing."""
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                shapes[name] = tuple(output.shape)

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in network.named_modules() if name]
    try:
        with torch.inference_mode():
            shape = network(torch.zeros(1, 3, height, width)).shape
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BackboneError(
            f"{type(network).__name__} cannot take pictures of {width} x {height} px: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if len(shape) != 2:
        raise BackboneError(f"{type(network).__name__}: expected one vector per image; found shape {tuple(shape)}")
    return shapes


def _in_order(network: nn.Module, layers: Sequence[str], shapes: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    names = [name for name, _ in network.named_modules() if name]
    for layer in layers:
        if layer != LAST_LAYER and shapes.get(layer, (1,))[0] != 1:
            raise BackboneError(f"backbone.layers: {layer} cuts pictures into parts, so it gives no vector per image")
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
