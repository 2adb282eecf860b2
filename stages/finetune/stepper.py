"""The stepper: one step of the optimizer on one batch."""

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms import v2

from headstart.base.machine import allow_unrepeatable, is_strictly_repeatable
from headstart.linear.targets import Targets
from stages.finetune.inputs import to_device
from stages.finetune.loader import Batch
from stages.finetune.memory import fill_up
from stages.finetune.params import FinetuneParams
from stages.finetune.ranks import Ranks
from stages.finetune.trainable_layers import has_batch_norm


class Stepper:
    """Computes the gradients of a batch and takes one step of the optimizer.

    Attributes:
        optimizer: Optimizer of the parameters that train.
        scaler: Keeps small gradients of float16 from vanishing. At other precisions it does nothing.

    Args:
        module: The classifier, or a module that wraps it.
        optimizer: Optimizer of the parameters that train.
        targets: Targets of the training images.
        params: Settings of the loss, of clipping and of accumulation.
        dtype: Precision of the forward pass.
        device: Device of the classifier.
        ranks: Processes that share every batch.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        targets: Targets,
        params: FinetuneParams,
        dtype: torch.dtype,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self._module, self._params = module, params
        self._dtype, self._device, self._ranks = dtype, device, ranks
        self._classes, self._sample_weights = targets.classes, targets.sample_weights
        weights_C = np.ones(targets.num_classes, dtype=np.float32)
        weights_C[targets.classes] = targets.sample_weights
        self._weights_C = torch.from_numpy(weights_C).to(device)
        alpha = params.augmentation.mixup
        self._mixup = v2.MixUp(alpha=alpha, num_classes=targets.num_classes) if alpha else None
        # Batches differ by one image, and cuDNN plans its work anew for each size, which can take seconds. BatchNorm
        # that trains would count the copies in its statistics.
        trains_norms = params.batch_norm == "train" and has_batch_norm(module)
        self._fills_up = device.type == "cuda" and not trains_norms
        self._largest = 0  # number of images in the largest part so far
        self._is_rehearsed = False

    def rehearse(self, share: Batch, batch: Batch, inputs: torch.Tensor) -> None:
        """Find out which operation of a step has no repeatable kernel on a GPU, and allow it.

        Afterwards only torch's generators are in another state.

        It is done once, before the first step. A step itself cannot be repeated, because the ranks have begun to
        average its gradients when the operation is refused.

        Args:
            share: As in `step`.
            batch: As in `step`.
            inputs: As in `step`.
        """
        if self._is_rehearsed or not is_strictly_repeatable():
            return
        self._is_rehearsed = True
        buffers = [(buffer, buffer.clone()) for buffer in self._module.buffers()]
        part = self._parts(share, batch)[0]
        try:
            with self._without_exchange(is_last=False):
                self._loss(*self._mixed(inputs[part], share[part])).backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if not allow_unrepeatable(error):
                raise
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)

    def step(self, share: Batch, batch: Batch, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Take one step and return this rank's part of the loss of the batch, as the scalars that add up to it.

        The loss of a batch is sum(w L) / sum(w), with the sample weight w of each image and its cross-entropy L. Sums
        over the ranks and over the accumulated parts give the same loss. The scalars are on the device: a GPU may not
        have computed them yet.

        Args:
            share: Positions of the images of the batch that this rank works on, at least one.
            batch: Positions of all images of the batch.
            inputs: (B, ...) inputs of the share, on the device.
        """
        total = float(self._sample_weights[batch].sum())
        parts = self._parts(share, batch)
        inputs, target = self._mixed(inputs, share)
        losses = []
        for number, part in enumerate(parts, start=1):
            with self._without_exchange(is_last=number == len(parts)):
                loss = self._loss(inputs[part], target[part]) / total
                self.scaler.scale(loss * self._ranks.rank.num_ranks).backward()  # type: ignore[no-untyped-call]
                losses.append(loss.detach())
        self._update_weights()
        return losses

    def _mixed(self, inputs: torch.Tensor, share: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets, after mixup if there is any."""
        target = to_device(self._classes[share], self._device)
        return (inputs, target) if self._mixup is None else self._mixup(inputs, target)

    def _parts(self, share: Batch, batch: Batch) -> list[slice]:
        """Return the parts of a share whose gradients are accumulated."""
        # The number is the same on every rank, because synchronised BatchNorm makes the ranks meet in every part.
        num = max(1, min(self._params.accumulate, len(batch) // self._ranks.rank.num_ranks // 2))
        return [slice(part[0], part[-1] + 1) for part in np.array_split(np.arange(len(share)), num)]

    def _loss(self, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of the loss over some images.

        Targets are classes (B,), or shares of the classes (B, C) after mixup.
        """
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits = self._module(self._filled_up(inputs))[: len(inputs)].float()
        return functional.cross_entropy(
            logits, target, weight=self._weights_C, reduction="sum", label_smoothing=self._params.label_smoothing
        )

    def _filled_up(self, inputs: torch.Tensor) -> torch.Tensor:
        self._largest = max(self._largest, len(inputs))
        return fill_up(inputs, self._largest) if self._fills_up else inputs

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
    """Return the precision of forward passes. `auto` is half precision on CUDA, else float32.

    It is bfloat16, or float16 on GPUs that only emulate bfloat16, such as T4 and V100.
    """
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
