"""What `finetune` finds besides predictions: the scores of each epoch, and a sample of what it trains on."""

from dataclasses import dataclass
from typing import ClassVar

from headstart.tables.rows import Row


@dataclass(frozen=True)
class EpochPoint(Row):
    """The scores of an epoch of fine-tuning on the inner validation.

    Every row repeats the scores of the start, so that the plot can draw them as a line.

    Attributes:
        epoch: Number of the epoch. Epoch 0 is the start, before any step.
        accuracy: Accuracy after the epoch, in [0, 1].
        start_accuracy: Accuracy of the start.
        log_loss: Mean log loss after the epoch, calibrated, in nats.
        start_log_loss: Mean log loss of the start, calibrated, in nats.
        training_loss: Mean training loss over the steps of the epoch. None for the start.
        rate_factor: Factor of the learning rates in the last step of the epoch, in [0, 1].
        kept: 1 for the epoch whose weights are kept, 0 for all others.
    """

    epoch: int
    accuracy: float
    start_accuracy: float
    log_loss: float
    start_log_loss: float
    training_loss: float | None
    rate_factor: float
    kept: int

    repro: ClassVar[str] = "finetune"


@dataclass(frozen=True)
class SampleRow(Row):
    """A training image whose augmented draws are shown.

    Attributes:
        file: Name of the picture in the same folder: the upright image, then its draws, in a row.
        path: Path of the image, as in the index.
        label: Name of its class.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
    """

    file: str
    path: str
    label: str
    width: int
    height: int

    repro: ClassVar[str] = "finetune"
