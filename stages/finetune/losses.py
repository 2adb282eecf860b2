"""The losses of an epoch, which are read only now and then, so that the CPU need not wait for a GPU in every step."""

from collections.abc import Sequence

import numpy as np
import torch

from headstart.base.errors import TrainingError
from stages.finetune.loader import Batch
from stages.finetune.subsets import LabelledImage

_STEPS_PER_READ = 16
_MAX_PATHS = 5  # paths of images in an error message


class Losses:
    """The losses of this rank in the steps of an epoch.

    Args:
        images: Training images, for messages.
    """

    def __init__(self, images: Sequence[LabelledImage]) -> None:
        self._images = images
        self._read: list[float] = []
        self._unread: list[tuple[Sequence[torch.Tensor], Batch, str]] = []

    def add(self, parts: Sequence[torch.Tensor], share: Batch, where: str) -> None:
        """Add a step, and after some steps read their losses.

        Args:
            parts: Losses of the accumulated parts of the step, scalars on the device. Their sum is the loss.
            share: Positions of the images of the step.
            where: Epoch and step, for messages.

        Raises:
            TrainingError: The loss of a step is not finite.
        """
        self._unread.append((parts, share, where))
        if len(self._unread) == _STEPS_PER_READ:
            self._read_all()

    def total(self) -> torch.Tensor:
        """Return the sum over the steps, a float64 scalar on the CPU.

        Raises:
            TrainingError: The loss of a step is not finite.
        """
        self._read_all()
        return torch.tensor(self._read, dtype=torch.float64).sum()

    def _read_all(self) -> None:
        steps, self._unread = self._unread, []
        if not steps:
            return
        values = iter(torch.stack([part for parts, _, _ in steps for part in parts]).cpu().tolist())
        for parts, share, where in steps:
            loss = sum(next(values) for _ in parts)
            if not np.isfinite(loss):
                raise self._not_finite(loss, share, where)
            self._read.append(loss)

    def _not_finite(self, loss: float, share: Batch, where: str) -> TrainingError:
        shown = ", ".join(self._images[position].row.path for position in share[:_MAX_PATHS])
        rest = f" and {len(share) - _MAX_PATHS} more" if len(share) > _MAX_PATHS else ""
        return TrainingError(
            f"{where}: the loss is {loss}, on {shown}{rest}. Most often the learning rates are too high: lower "
            "finetune.optimizer.backbone_rate and head_rate, or set finetune.optimizer.clip to 1.0"
        )
