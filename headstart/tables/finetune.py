"""What `finetune` finds besides predictions: the scores of each epoch."""

from dataclasses import dataclass
from typing import ClassVar

from headstart.tables.rows import Row


@dataclass(frozen=True)
class EpochPoint(Row):
    """An epoch of fine-tuning on the inner validation; the start's scores stand beside every epoch's, for the plot.

    Attributes:
        epoch: 0 is the start.
        accuracy: On the inner validation.
        start_accuracy: Of the start.
        log_loss: Calibrated, in nats.
        start_log_loss: Of the start.
        training_loss: Mean over the epoch; None for the start.
        rate_factor: Of the learning rates, at the end of the epoch.
        kept: 1 for the epoch that is kept, else 0.
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
