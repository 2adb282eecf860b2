"""Trainable layers: which parameters `finetune.unfreeze` lets learn, and which layers stay as they were pretrained."""

import difflib
from collections.abc import Sequence

import torch
from torch import nn

from headstart.base.errors import ParamsError
from stages.finetune.classifier import Classifier

ALL, HEAD = "all", "head"
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def layer_order(backbone: nn.Module, px: int) -> list[str]:
    """Return the names of the modules in the order in which they start in a forward pass; the backbone itself is first.

    Args:
        backbone: Network that takes pictures, float32 (B, 3, px, px).
        px: Side of the pictures.
    """
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
    """Whether a module contains BatchNorm, whose statistics can follow the batches."""
    return any(isinstance(layer, _NORMS) for layer in module.modules())


class TrainableLayers:
    """Lets only some layers of a classifier learn: the head, and the part of the backbone that `unfreeze` names.

    Attributes:
        first: Name of the first layer that trains. Empty if all layers train, None if only the head trains.

    Args:
        classifier: The classifier. `requires_grad` of its parameters is set.
        order: Names of the backbone's modules, as `layer_order` returns them.
        unfreeze: `all`, `head`, or the name of a layer: this layer and all that run after it train.
        train_norms: Whether the statistics of BatchNorm layers that train follow the batches. Otherwise they stay as
            they were pretrained.

    Raises:
        ParamsError: `unfreeze` names no layer.
    """

    def __init__(self, classifier: Classifier, order: Sequence[str], unfreeze: str, *, train_norms: bool) -> None:
        self._classifier, self._train_norms = classifier, train_norms
        self.first = {ALL: "", HEAD: None}.get(unfreeze, unfreeze)
        if self.first and self.first not in order:
            near = difflib.get_close_matches(self.first, order, n=5, cutoff=0.4)
            raise ParamsError(
                f"finetune.unfreeze: found {unfreeze!r}, which is no layer of this network; expected {ALL}, {HEAD} or "
                f"the name of a layer. Similar names: {', '.join(near) or 'none'}"
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
        # A module that contains the first trainable layer starts before that layer, so it stays frozen.
        return order.index(_called(name, order)) > order.index(self.first)

    def set_training_mode(self) -> None:
        """Set the layers that learn to training mode, with dropout and BatchNorm. Frozen layers stay in eval mode."""
        self._classifier.train()
        for module in self._frozen:
            module.training = False
        if not self._train_norms:
            for module in self._classifier.modules():
                if isinstance(module, _NORMS):
                    module.eval()


def freeze_unused(classifier: Classifier, px: int) -> None:
    """Freeze the parameters that no logit depends on, as if the network did not have them.

    They get no gradient, so they would not learn anyway. But several ranks would wait for their gradients.

    Args:
        classifier: The classifier, on the CPU.
        px: Side of the pictures.
    """
    was_training = classifier.backbone.training
    classifier.backbone.eval()
    classifier(torch.zeros(1, 3, px, px)).sum().backward()
    classifier.backbone.train(was_training)
    for parameter in classifier.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    classifier.zero_grad(set_to_none=True)


def layer_depths(backbone: nn.Module, order: Sequence[str], blocks: Sequence[str]) -> dict[str, int]:
    """Return for every module how many blocks have begun when it starts.

    The stem has depth 0. The modules that run last have the number of blocks.

    Args:
        backbone: The network.
        order: Names of its modules, as `layer_order` returns them.
        blocks: Names of its blocks, by depth.
    """
    result, depth = {}, 0
    for name in order:
        depth += name in blocks
        # A module that contains blocks starts before them. Its own parameters, such as a position embedding, count as
        # part of the stem.
        result[name] = depth
    return {name: result[_called(name, order)] for name, _ in backbone.named_modules()}


def _called(name: str, order: Sequence[str]) -> str:
    """Return the module itself, or the nearest module around it that is called.

    Some modules are never called: they only lend their weights to the module around them.
    """
    while name not in order:
        name = name.rpartition(".")[0]
    return name
