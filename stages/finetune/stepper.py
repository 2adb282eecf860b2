"""The stepper: one step of the optimizer on one batch."""

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
from stages.finetune.subsets import LabelledImage

_MAX_PATHS = 5  # paths of images in an error message


class Stepper:
    """Computes the gradients of a batch and takes one step of the optimizer.

    Attributes:
        optimizer: Optimizer of the parameters that train.
        scaler: Keeps small gradients of float16 from vanishing. At other precisions it does nothing.

    Args:
        module: The classifier, or a module that wraps it.
        optimizer: Optimizer of the parameters that train.
        images: Training images, for messages.
        targets: Targets of these images.
        params: Settings of the loss, of clipping and of accumulation.
        dtype: Precision of the forward pass.
        device: Device of the classifier.
        ranks: Processes that share every batch.
    """

    def __init__(
        self,
        module: Callable[[torch.Tensor], torch.Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        images: Sequence[LabelledImage],
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
        self._sample_weights = targets.sample_weights
        weights_C = np.ones(targets.num_classes, dtype=np.float32)
        weights_C[targets.classes] = targets.sample_weights
        self._weights_C = torch.from_numpy(weights_C).to(device)
        alpha = params.augmentation.mixup
        self._mixup = v2.MixUp(alpha=alpha, num_classes=targets.num_classes) if alpha else None

    def step(self, share: Batch, batch: Batch, inputs: torch.Tensor, where: str) -> float:
        """Take one step and return this rank's part of the loss of the batch.

        The loss of a batch is sum(w L) / sum(w), with the sample weight w of each image and its cross-entropy L. Sums
        over the ranks and over the accumulated parts give the same loss.

        Args:
            share: Positions of the images of the batch that this rank works on, at least one.
            batch: Positions of all images of the batch.
            inputs: (B, ...) inputs of the share, on the device.
            where: Epoch and step, for messages.

        Raises:
            TrainingError: The loss is not finite, or the device has too little memory.
        """
        total = float(self._sample_weights[batch].sum())
        # The number is the same on every rank, because synchronised BatchNorm makes the ranks meet in every part.
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
                f"{self._device}: out of memory at a batch of {len(batch)} in {self._params.accumulate} part(s). "
                "Raise finetune.accumulate (more parts, same result), or lower finetune.batch or transform.px"
            ) from error
        if not np.isfinite(loss):
            shown = ", ".join(self._images[position].row.path for position in share[:_MAX_PATHS])
            rest = f" and {len(share) - _MAX_PATHS} more" if len(share) > _MAX_PATHS else ""
            raise TrainingError(
                f"{where}: the loss is {loss}, on {shown}{rest}. Most often the learning rates are too high: lower "
                "finetune.optimizer.backbone_rate and head_rate, or set finetune.optimizer.clip to 1.0"
            )
        self._update_weights()
        return loss

    def _loss(self, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of the loss over some images.

        Targets are classes (B,), or shares of the classes (B, C) after mixup.
        """
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits = self._module(inputs).float()
        return functional.cross_entropy(
            logits, target, weight=self._weights_C, reduction="sum", label_smoothing=self._params.label_smoothing
        )

    def _update_weights(self) -> None:
        if self._params.optimizer.clip is not None:
            self.scaler.unscale_(self.optimizer)
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, self._params.optimizer.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _without_exchange(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Let the ranks average their gradients only in the last part, once a step."""
        if is_last or not isinstance(self._module, DistributedDataParallel):
            return nullcontext()
        return self._module.no_sync()


def forward_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the precision of forward passes. `auto` is bfloat16 on a GPU that supports it, else float32."""
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
