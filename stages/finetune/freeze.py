"""Freezing: which parameters train, and which layers keep to what they were."""

import difflib
from collections.abc import Sequence

import torch
from torch import nn

from headstart.base.errors import ParamsError
from stages.finetune.classifier import Classifier

ALL, HEAD = "all", "head"
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def order_of_layers(backbone: nn.Module, px: int) -> list[str]:
    """Return the names of the modules in the order in which they start in a forward pass; the backbone itself first."""
    order: dict[str, None] = {}

    def start(name: str) -> None:
        order.setdefault(name)

    handles = [
        module.register_forward_pre_hook(lambda _, __, name=name: start(name))
        for name, module in backbone.named_modules()
    ]
    was_training = backbone.training
    try:
        with torch.inference_mode():
            backbone.eval()(torch.zeros(1, 3, px, px))
    finally:
        backbone.train(was_training)
        for handle in handles:
            handle.remove()
    return list(order)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a module holds a layer whose statistics can follow the batches."""
    return any(isinstance(layer, _NORMS) for layer in module.modules())


class Freezing:
    """Lets only some of a classifier learn: the head, and what `unfreeze` names of the backbone.

    Attributes:
        first: Name of the first layer that trains; empty where all do, None where the head alone does.

    Args:
        classifier: `requires_grad` of its parameters is set.
        order: As `order_of_layers` gives it.
        unfreeze: `all`, `head`, or the name of a layer: it and all that run after it.
        train_norms: Whether BatchNorm layers that train follow the batches; else they keep their statistics.

    Raises:
        ParamsError: No such layer.
    """

    def __init__(self, classifier: Classifier, order: Sequence[str], unfreeze: str, *, train_norms: bool) -> None:
        self._classifier, self._train_norms = classifier, train_norms
        self.first = {ALL: "", HEAD: None}.get(unfreeze, unfreeze)
        if self.first and self.first not in order:
            near = difflib.get_close_matches(self.first, order, n=5, cutoff=0.4)
            raise ParamsError(
                f"finetune.unfreeze: {unfreeze!r} is no layer of this network that runs; expected {ALL}, {HEAD} or a "
                f"layer, near ones are {', '.join(near) or 'none'}"
            )
        self._frozen = [module for name, module in classifier.backbone.named_modules() if not self._trains(name, order)]
        for module in self._frozen:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        trained = set(classifier.backbone.modules()) - set(self._frozen)
        for module in trained:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(True)
        classifier.head.requires_grad_(True)

    def _trains(self, name: str, order: Sequence[str]) -> bool:
        if self.first is None:
            return False
        if self.first in {"", name} or name.startswith(f"{self.first}."):
            return True
        # What holds the first layer has started before it.
        return order.index(_called(name, order)) > order.index(self.first)

    def train(self) -> None:
        """Set what learns to training, dropout and BatchNorm too; all that is frozen stays as it predicts."""
        self._classifier.train()
        for module in self._frozen:
            module.training = False
        if not self._train_norms:
            for module in self._classifier.modules():
                if isinstance(module, _NORMS):
                    module.eval()


def depths(backbone: nn.Module, order: Sequence[str], blocks: Sequence[str]) -> dict[str, int]:
    """Return for every module how many blocks have begun when it starts: 0 for the stem, the most for what comes last.

    Args:
        backbone: Any.
        order: As `order_of_layers` gives it.
        blocks: Names of the blocks, by depth.
    """
    result, depth = {}, 0
    for name in order:
        depth += name in blocks
        # What holds a block begins before it, and its own parameters (a position embedding, say) are the stem's.
        result[name] = depth
    return {name: result[_called(name, order)] for name, _ in backbone.named_modules()}


def _called(name: str, order: Sequence[str]) -> str:
    """Return the module itself, or the nearest around it that is called: some only lend their weights to that one."""
    while name not in order:
        name = name.rpartition(".")[0]
    return name
