"""The optimizer: groups of parameters with their learning rates, and the learning-rate schedule."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from stages.finetune.classifier import Classifier
from stages.finetune.params import FinetuneParams, OptimizerParams


def make_groups(classifier: Classifier, depth_of: Mapping[str, int], params: OptimizerParams) -> list[dict[str, Any]]:
    """Return the parameters that train, grouped by learning rate and weight decay, for torch's optimizers.

    The learning rate of block d of D is backbone_rate layer_decay^(D - d), as in the discriminative fine-tuning of
    Howard & Ruder (2018, section 3.2). The stem is block 0. Modules after the last block belong to it.
    Biases and the scales of norms (parameters with one axis) have no weight decay.

    Args:
        classifier: Its parameters with `requires_grad` train.
        depth_of: Depth of each module of the backbone, by name.
        params: Rates and weight decay.
    """
    deepest = max(depth_of.values())
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in classifier.named_parameters():
        if not parameter.requires_grad:
            continue
        part, _, inner = name.partition(".")
        rate = params.head_rate
        if part == "backbone":
            rate = params.backbone_rate * params.layer_decay ** (deepest - depth_of[inner.rpartition(".")[0]])
        decay = params.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": members, "lr": rate, "rate": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


def make_optimizer(
    groups: list[dict[str, Any]], params: OptimizerParams, device: torch.device
) -> torch.optim.Optimizer:
    """Return the optimizer that `finetune.optimizer.kind` names, for groups of parameters on a device.

    On CUDA one kernel updates many tensors, if the optimizer has such a kernel.
    """
    return OPTIMIZERS[params.kind](groups, params, True if device.type == "cuda" else None)


def rate_factor(epoch: int, step: int, num_steps: int, params: FinetuneParams) -> float:
    """Return the factor of all learning rates at a step, in [0, 1].

    It rises linearly during the warm-up. Afterwards it follows the schedule. With t the fraction of the steps after the
    warm-up that are done: `constant` is 1, `cosine` is (1 + cos(pi t)) / 2 (Loshchilov & Hutter 2017), and `step` is
    gamma^(epoch // step_epochs). It depends only on the arguments, so a run can resume at any step.

    Args:
        epoch: Number of the epoch, from 0.
        step: Number of the step in the epoch, from 0.
        num_steps: Steps in an epoch.
        params: Epochs and schedule.
    """
    schedule = params.schedule
    if epoch < schedule.warmup_epochs:
        return (epoch * num_steps + step + 1) / (schedule.warmup_epochs * num_steps)
    return SCHEDULES[schedule.kind](epoch, step, num_steps, params)


def _adamw(groups: list[dict[str, Any]], params: OptimizerParams, fused: bool | None) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, betas=(params.momentum, 0.999), fused=fused)


def _rmsprop(groups: list[dict[str, Any]], params: OptimizerParams, fused: bool | None) -> torch.optim.Optimizer:  # noqa: ARG001
    return torch.optim.RMSprop(groups, momentum=params.momentum)


def _sgd(groups: list[dict[str, Any]], params: OptimizerParams, fused: bool | None) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=params.momentum, fused=fused)


# To add an optimizer, add an entry, and its name to `OptimizerParams.kind`. The groups bring rates and weight decay.
# `fused` is None where torch may choose.
OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], OptimizerParams, bool | None], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}


def _constant(epoch: int, step: int, num_steps: int, params: FinetuneParams) -> float:  # noqa: ARG001
    return 1.0


def _cosine(epoch: int, step: int, num_steps: int, params: FinetuneParams) -> float:
    warmup = params.schedule.warmup_epochs
    done = (epoch - warmup) * num_steps + step
    return (1 + math.cos(math.pi * done / ((params.epochs - warmup) * num_steps))) / 2


def _step(epoch: int, step: int, num_steps: int, params: FinetuneParams) -> float:  # noqa: ARG001
    return float(params.schedule.gamma ** (epoch // params.schedule.step_epochs))


# Factors of the learning rates after the warm-up. To add one, add an entry, and its name to `ScheduleParams.kind`.
SCHEDULES: dict[str, Callable[[int, int, int, FinetuneParams], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "step": _step,
}
