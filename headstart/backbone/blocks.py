"""The blocks of a network, and which layers are read by default."""

from collections.abc import Callable

import torch
from torch import nn

from headstart.base.errors import BackboneError
from headstart.tables.names import LAST_LAYER

# Five layers cost little beside the network, and show at which depth the accuracy is highest.
_NUM_DEFAULT_LAYERS = 5
# If a child has at least this fraction of the parameters of the trunk, it is the trunk itself.
_TRUNK_FRACTION = 0.8


def default_layers(network: nn.Module, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Return the layers for `backbone.layers: auto`: at most 5 blocks of the last two thirds, and `last`.

    The blocks of the first third are left out, because they see only edges and colours.

    Args:
        network: A network that gives one vector for each picture.
        shapes: Output shape of each module that ran, by name, in the order in which the modules finished.
    """
    names = _blocks(network, shapes)
    start, end = len(names) // 3, len(names) - 1
    chosen = {round(start + (end - start) * step / (_NUM_DEFAULT_LAYERS - 1)) for step in range(_NUM_DEFAULT_LAYERS)}
    return [names[position] for position in sorted(chosen) if names] + [LAST_LAYER]


def blocks_of(network: nn.Module, px: int) -> list[str]:
    """Return the names of a network's blocks, the first one first.

    A block is a large part of a network that stands between others, such as a stage of a ResNet or a layer of a
    transformer.

    Args:
        network: Turns float32 (B, 3, px, px) into float32 (B, dim).
        px: Side of its pictures, in pixels.

    Raises:
        BackboneError: The network cannot take pictures of this side.
    """
    return _blocks(network, output_shapes(network, px, px))


def _blocks(network: nn.Module, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Return the children of the trunk, the innermost module with most of the parameters."""

    def num_params(name: str, module: nn.Module) -> int:
        """Count the parameters of layers that give maps or tokens."""
        inner = [(f"{name}.{child}" if name else child, layer) for child, layer in module.named_modules() if child]
        layers = [(name, module), *inner]
        return sum(
            parameter.numel()
            for place, layer in layers
            if len(shapes.get(place, ())) in (3, 4)
            for parameter in layer.parameters(recurse=False)
        )

    def blocks(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
        """Return the children with parameters that give maps or tokens."""
        named = []
        for child, layer in module.named_children():
            place = f"{name}.{child}" if name else child
            # A list does not run; its items do.
            named += blocks(place, layer) if isinstance(layer, nn.ModuleList) else [(place, layer)]
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


def output_shapes(network: nn.Module, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the output shape of each module that ran and gave a tensor, by name, in the order of finishing.

    Raises:
        BackboneError: The network cannot take such a picture, or gives no vector for it.
    """
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
