"""The frozen prefix: frozen layers before the first that trains. Where their input never changes, they run once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from stages.finetune.classifier import Classifier

_TOLERANCE = 1e-4


class _Reached(Exception):  # noqa: N818 - no error
    """The first layer that trains was reached."""


class FrozenPrefix:
    """The layers before one; get it from `find_frozen_prefix`, which tells whether they can be taken off.

    Args:
        classifier: Its backbone is frozen before `first`.
        first: Name of the first layer that trains; None where none does: then all of the backbone is the frozen prefix.
        order: As `order_of_layers` gives it.
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
        """Return what the first layer that trains is given, for normalised pictures (B, 3, px, px)."""
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
    def taken_off(self) -> Iterator[None]:
        """For a block, the classifier takes activations in place of pictures."""
        if self._first is None:
            self._classifier.backbone = nn.Identity()
        taken = {name: self._backbone.get_submodule(name) for name in self._names}
        try:
            for name in taken:
                self._backbone.set_submodule(name, nn.Identity())
            yield
        finally:
            for name, module in taken.items():
                self._backbone.set_submodule(name, module)
            self._classifier.backbone = self._backbone


def find_frozen_prefix(classifier: Classifier, first: str | None, order: Sequence[str], px: int) -> FrozenPrefix | None:
    """Return the frozen prefix; None where the backbone without it gives other outputs (tried on random pictures).

    So it is where the layers before the first that trains do not simply follow each other, as in networks that add
    positions to their patches.
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
                with prefix.taken_off():
                    rest = backbone(activations)
            except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, IndexError):
                return None
    finally:
        backbone.train(was_training)
    same = rest.shape == whole.shape and bool((rest - whole).abs().max() <= _TOLERANCE * whole.abs().max())
    return prefix if same else None
