"""Short runs of fine-tuning, and the comparison of two outcomes."""

from typing import Any

import numpy as np

from stages.finetune.run import FineTuned
from tests.support.finetuning import tensors_of

# One epoch that changes the weights so much that they, and not those of the start, are kept.
SHORT: dict[str, Any] = {"epochs": 1, "init": "random", "optimizer__head_rate": 0.05, "augmentation__kind": "crop"}


def losses(tuned: FineTuned) -> list[float]:
    """Return the losses of every epoch."""
    return [loss for one in tuned.history for loss in (one.training_loss, one.log_loss) if loss is not None]


def assert_same(mine: FineTuned, cpu: FineTuned) -> None:
    """Check that two results agree up to rounding."""
    assert mine.kept.epoch == cpu.kept.epoch
    assert np.allclose(losses(mine), losses(cpu), rtol=1e-4, atol=1e-6)
    assert np.allclose(mine.predictions.logits, cpu.predictions.logits, rtol=1e-3, atol=1e-3)
    theirs = tensors_of(cpu)
    for name, tensor in tensors_of(mine).items():
        assert np.allclose(tensor, theirs[name], rtol=1e-3, atol=1e-4), name
