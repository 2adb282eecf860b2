"""Optimizing: groups of parameters with rates of their own, the optimizer, and the rates' course."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from stages.finetune.classifier import Classifier
from stages.finetune.params import FinetuneParams, OptimizerParams, ScheduleParams


def make_groups(classifier: Classifier, depth_of: Mapping[str, int], params: OptimizerParams) -> list[dict[str, Any]]:
    """Return the parameters that train, grouped by rate and weight decay, for torch's optimizers.

    The rate of the backbone's last layers is `backbone_rate`; each block before takes `layer_decay` of it. Biases and
    the scales of norms (all that has one axis) do not decay.

    Args:
        classifier: `requires_grad` says what trains.
        depth_of: Depth of each module of the backbone, by name.
        params: The rates.
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


def make_optimizer(groups: list[dict[str, Any]], params: OptimizerParams) -> torch.optim.Optimizer:
    """Return the optimizer; `momentum` is AdamW's first beta."""
    if params.kind == "adamw":
        return torch.optim.AdamW(groups, betas=(params.momentum, 0.999))
    if params.kind == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=params.momentum)
    return torch.optim.SGD(groups, momentum=params.momentum)


def rate_factor(epoch: int, step: int, num_steps: int, params: FinetuneParams) -> float:
    """Return what all rates are multiplied by at a step; it depends on nothing else, so a run can go on anywhere.

    Args:
        epoch: From 0.
        step: In the epoch, from 0.
        num_steps: Of an epoch.
        params: Epochs and schedule.
    """
    schedule: ScheduleParams = params.schedule
    if epoch < schedule.warmup_epochs:
        return (epoch * num_steps + step + 1) / (schedule.warmup_epochs * num_steps)
    if schedule.kind == "step":
        return float(schedule.gamma ** (epoch // schedule.step_epochs))
    if schedule.kind == "constant":
        return 1.0
    done = (epoch - schedule.warmup_epochs) * num_steps + step
    return (1 + math.cos(math.pi * done / ((params.epochs - schedule.warmup_epochs) * num_steps))) / 2
