"""Stepping: one step of the optimizer on one batch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms import v2

from headstart.base.errors import TrainingError
from headstart.linear.targets import Targets
from stages.finetune.loader import Batch
from stages.finetune.params import FinetuneParams
from stages.finetune.ranks import Ranks
from stages.finetune.subsets import Image

_SHOWN = 5


class Stepper:
    """Computes gradients and lets the optimizer go.

    Attributes:
        optimizer: Optimizer of the parameters that train.
        scaler: Keeps small gradients of float16 from vanishing; does nothing at other precisions.

    Args:
        module: The classifier, or what wraps it.
        optimizer: Optimizer of the parameters that train.
        images: Training images, for messages.
        targets: Targets of these images.
        params: Loss, clipping, accumulation.
        dtype: Precision of the forward pass.
        device: The classifier's.
        ranks: Share every batch.
    """

    def __init__(
        self,
        module: Callable[[torch.Tensor], torch.Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        images: Sequence[Image],
        targets: Targets,
        params: FinetuneParams,
        dtype: torch.dtype,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self._module, self._images, self._params = module, images, params
        self._dtype, self._device, self._ranks = dtype, device, ranks
        self._classes = torch.from_numpy(targets.classes).to(device)
        self._weights = targets.weights
        weights_C = np.ones(targets.num_classes, dtype=np.float32)
        weights_C[targets.classes] = targets.weights
        self._weights_C = torch.from_numpy(weights_C).to(device)
        alpha = params.augmentation.mixup
        self._mixup = v2.MixUp(alpha=alpha, num_classes=targets.num_classes) if alpha else None

    def step(self, share: Batch, batch: Batch, inputs: torch.Tensor, where: str) -> float:
        """Go one step; return this rank's part of the batch's mean loss.

        Args:
            share: Positions of this rank's images of the batch, at least one.
            batch: Positions of all of them.
            inputs: (B, ...) of the share, on the device.
            where: Epoch and step, for messages.

        Raises:
            TrainingError: The loss is not finite, or the memory of the device does not suffice.
        """
        total = float(self._weights[batch].sum())
        # The same number on every rank: they meet in every part where BatchNorm is synchronised.
        num_parts = max(1, min(self._params.accumulate, len(batch) // self._ranks.rank.num_ranks // 2))
        parts = np.array_split(np.arange(len(share)), num_parts)
        target = self._classes[torch.from_numpy(share).to(self._device)]
        if self._mixup is not None:
            inputs, target = self._mixup(inputs, target)
        loss = 0.0
        try:
            for number, part in enumerate(parts):
                with self._without_exchange(is_last=number == num_parts - 1):
                    part_loss = self._loss(inputs[part[0] : part[-1] + 1], target[part[0] : part[-1] + 1]) / total
                    self.scaler.scale(part_loss * self._ranks.rank.num_ranks).backward()  # type: ignore[no-untyped-call]
                    loss += part_loss.item()
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"{self._device}: out of memory at a batch of {len(batch)} in {self._params.accumulate} part(s). Raise "
                "finetune.accumulate (the same result in more parts), or lower finetune.batch or transform.px"
            ) from error
        if not np.isfinite(loss):
            shown = ", ".join(self._images[position].row.path for position in share[:_SHOWN])
            rest = f" and {len(share) - _SHOWN} more" if len(share) > _SHOWN else ""
            raise TrainingError(
                f"{where}: the loss is {loss}, on {shown}{rest}. Most often the rates are too high: lower "
                "finetune.optimizer.backbone_rate and head_rate, or set finetune.optimizer.clip to 1.0"
            )
        self._move()
        return loss

    def _loss(self, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum over some images, whose targets are classes (B,) or, mixed, shares of them (B, C)."""
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits = self._module(inputs).float()
        return functional.cross_entropy(
            logits, target, weight=self._weights_C, reduction="sum", label_smoothing=self._params.label_smoothing
        )

    def _move(self) -> None:
        if self._params.optimizer.clip is not None:
            self.scaler.unscale_(self.optimizer)
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, self._params.optimizer.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _without_exchange(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Gradients of the ranks are averaged once a step."""
        if is_last or not isinstance(self._module, DistributedDataParallel):
            return nullcontext()
        return self._module.no_sync()
