"""The history of a training: the scores of its epochs, and which weights are kept."""

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
        temperature: Temperature that calibrates the logits.
    """

    epoch: int
    rate_factor: float
    training_loss: float | None
    accuracy: float
    log_loss: float
    temperature: float


@dataclass(frozen=True)
class Kept:
    """The weights that are kept: a mean of those of the start and of the last epoch.

    Attributes:
        epoch: Number of the last epoch; 0 if the start is kept.
        share: Weight of the last epoch in the mean, above 0 and at most 1.
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
