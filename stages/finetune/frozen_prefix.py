"""The frozen prefix: the layers before the first one that trains. If their input never changes, they run only once."""

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
            inside = any(name.startswith(f"{outer}.") for outer in self._names)
            if not holds_first and not inside:
                self._names.append(name)

    def activations(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the input of the first layer that trains, float32 (B, ...), for normalised pictures (B, 3, px, px)."""
        if self._first is None:
            output: torch.Tensor = self._backbone(inputs)
            return output
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
        return kept[0]

    @contextmanager
    def removed(self) -> Iterator[None]:
        """Remove the prefix inside a `with` block: the classifier then takes activations instead of pictures."""
        if self._first is None:
            self._classifier.backbone = nn.Identity()
        removed = {name: self._backbone.get_submodule(name) for name in self._names}
        try:
            for name in removed:
                self._backbone.set_submodule(name, nn.Identity())
            yield
        finally:
            for name, module in removed.items():
                self._backbone.set_submodule(name, module)
            self._classifier.backbone = self._backbone


def find_frozen_prefix(classifier: Classifier, first: str | None, order: Sequence[str], px: int) -> FrozenPrefix | None:
    """Return the frozen prefix, or None if the backbone has none that can be removed.

    The prefix cannot be removed if the rest of the backbone then gives other outputs. This is tried on random pictures.
    It happens in networks whose layers are not a plain chain, such as transformers that add position embeddings.

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
            whole = backbone(pictures)
            try:
                activations = prefix.activations(pictures)
                with prefix.removed():
                    rest = backbone(activations)
            except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, IndexError):
                return None
    finally:
        backbone.train(was_training)
    same = rest.shape == whole.shape and bool((rest - whole).abs().max() <= _TOLERANCE * whole.abs().max())
    return prefix if same else None
