"""The frozen prefix: the layers before the first one that trains. If their input never changes, they run only once."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from stages.finetune.classifier import Classifier

_TOLERANCE = 1e-4


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """The forward pass has reached the first layer that trains."""


class FrozenPrefix:
    """The layers before the first one that trains.

    What the rest of the network needs of an image is its activation, the input of the first layer that trains, and the
    embeddings of those layers of the prefix that the head reads.

    Use `find_frozen_prefix` to get one: it checks that the rest of the backbone works without these layers.

    Args:
        classifier: The classifier. Its backbone is frozen before `first`.
        first: Name of the first layer that trains. None: no layer trains, and the whole backbone is the prefix.
        order: Names of the backbone's modules, as `layer_order` returns them.
    """

    def __init__(self, classifier: Classifier, first: str | None, order: Sequence[str]) -> None:
        self._classifier, self._backbone, self._first = classifier, classifier.backbone, first
        self._names: list[str] = []
        for name in () if first is None else order[1 : order.index(first)]:
            holds_first = first is not None and first.startswith(f"{name}.")
            if not holds_first and not self._holds(name):
                self._names.append(name)
        self._inside = [layer for layer in classifier.reader.layers if self._holds(layer)]
        self._activation_shape: tuple[int, ...] = ()
        self._removed: dict[str, nn.Module] = {}
        self._embed_pictures = classifier.embed

    def activations(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the rest of the network needs, float32 (B, values), for normalised pictures (B, 3, px, px)."""
        if self._first is None:
            return self._classifier.embed(inputs)
        kept: list[torch.Tensor] = []

        def stop(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            kept.append(given[0])
            raise _Reached

        handle = self._backbone.get_submodule(self._first).register_forward_pre_hook(stop)
        try:
            self._backbone(inputs)
        except _Reached:
            pass
        finally:
            handle.remove()
        self._activation_shape = tuple(kept[0].shape[1:])
        embeddings = self._classifier.reader.kept()
        return torch.cat([kept[0].flatten(1), *(embeddings[layer] for layer in self._inside)], dim=1)

    @contextmanager
    def removed(self) -> Iterator[None]:
        """Remove the prefix inside a `with` block: the classifier then takes activations instead of pictures."""
        try:
            self._remove()
            yield
        finally:
            self._put_back()

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Put the prefix back inside a `with` block, while it is removed."""
        self._put_back()
        try:
            yield
        finally:
            self._remove()

    def _remove(self) -> None:
        for name in self._names:
            self._removed[name] = self._backbone.get_submodule(name)
            self._backbone.set_submodule(name, nn.Identity())
        self._classifier.embed = _unchanged if self._first is None else self._embed_rest

    def _put_back(self) -> None:
        for name, module in self._removed.items():
            self._backbone.set_submodule(name, module)
        self._removed = {}
        self._classifier.embed = self._embed_pictures

    def _embed_rest(self, activations: torch.Tensor) -> torch.Tensor:
        """Return the embeddings that the head reads, float32 (B, dim), for what `activations` returned."""
        reader = self._classifier.reader
        sizes = [math.prod(self._activation_shape), *(reader.dims[layer] for layer in self._inside)]
        activation, *embeddings = torch.split(activations, sizes, dim=1)
        known = dict(zip(self._inside, embeddings, strict=True))
        activation = activation.reshape(-1, *self._activation_shape)
        if activation.device.type == "cuda" and activation.ndim == 4:  # as the weights, or every layer would convert it
            activation = activation.contiguous(memory_format=torch.channels_last)
        found = known | reader.read(activation)
        return torch.cat([found[layer] for layer in reader.layers], dim=1)

    def _holds(self, name: str) -> bool:
        """Whether a module is one of those that are removed, or lies in one."""
        return any(name == outer or name.startswith(f"{outer}.") for outer in self._names)


def _unchanged(activations: torch.Tensor) -> torch.Tensor:
    return activations


def find_frozen_prefix(classifier: Classifier, first: str | None, order: Sequence[str], px: int) -> FrozenPrefix | None:
    """Return the frozen prefix, or None if the backbone has none that can be removed.

    The prefix cannot be removed if the rest of the network then gives other embeddings, which random pictures show. It
    happens in networks whose layers are not a plain chain, such as transformers that add position embeddings.

    Args:
        classifier: The classifier, on the CPU. Its backbone is frozen before `first`.
        first: As in `TrainableLayers`: empty if all layers train, None if only the head trains.
        order: Names of the backbone's modules, as `layer_order` returns them.
        px: Side of the pictures.
    """
    if first == "":
        return None
    prefix, backbone = FrozenPrefix(classifier, first, order), classifier.backbone
    if first is None:
        return prefix
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, 3, px, px, generator=generator)
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.inference_mode():
            whole = classifier.embed(pictures)
            try:
                activations = prefix.activations(pictures)
                with prefix.removed():
                    rest = classifier.embed(activations)
            except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, LookupError):
                return None
    finally:
        backbone.train(was_training)
    same = rest.shape == whole.shape and bool((rest - whole).abs().max() <= _TOLERANCE * whole.abs().max())
    return prefix if same else None
