"""The history of a training: the scores of its epochs, and which weights are kept."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """The scores of an epoch.

    Attributes:
        epoch: Number of the epoch, from 1. Epoch 0 is the start, before any step.
        rate_factor: Factor of the learning rates in the last step. It is 0 for the start.
        training_loss: Mean loss over the steps, with augmentation and label smoothing. None for the start.
        accuracy: Accuracy on the inner validation.
        log_loss: Calibrated log loss on the inner validation, in nats.
        error: Standard error of the difference between this log loss and that of the start, over the pairs of losses
            of the same image.
        temperature: Temperature that calibrates the logits.
    """

    epoch: int
    rate_factor: float
    training_loss: float | None
    accuracy: float
    log_loss: float
    error: float
    temperature: float


@dataclass(frozen=True)
class Kept:
    """The weights that are kept: a mean of those of the start and of the best epoch.

    Attributes:
        epoch: Number of the best epoch; 0 if the start is kept.
        share: Weight of the best epoch in the mean, above 0 and at most 1.
        accuracy: Accuracy of the kept weights on the inner validation.
        log_loss: Their calibrated log loss on the inner validation, in nats.
        temperature: Temperature that calibrates their logits.
    """

    epoch: int
    share: float
    accuracy: float
    log_loss: float
    temperature: float

    @classmethod
    def of(cls, epoch: Epoch, share: float = 1.0) -> "Kept":
        """Return the weights of an epoch, or of a mean that was scored like an epoch."""
        return cls(epoch.epoch, share, epoch.accuracy, epoch.log_loss, epoch.temperature)


def lowest_epoch(history: Sequence[Epoch]) -> Epoch:
    """Return the epoch after the start that has the lowest calibrated log loss on the inner validation.

    The log loss is finer than the accuracy, which changes in steps of one image. It is calibrated, because the
    temperature of the bundle corrects an epoch that is too confident. The start itself is not meant, unless there is no
    other epoch: a good start is not reached again before the learning rates have fallen.
    """
    return min(history[1:] or history, key=lambda epoch: epoch.log_loss)


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """Return the epoch to keep: the lowest one if it is clearly better than the start, else the start.

    "Clearly better" means: its log loss is lower by more than one standard error of the paired difference. The lowest
    of many epochs can be lower by chance alone, because the inner validation of a small data set has only a few dozen
    images.
    """
    start, lowest = history[0], lowest_epoch(history)
    return lowest if start.log_loss - lowest.log_loss > lowest.error else start
