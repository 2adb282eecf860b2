"""The loss of logistic regression: the code for a GPU against the code for the CPU."""

import numpy as np
import pytest

from headstart.linear.layer_rows import RowBlock
from headstart.linear.loss import loss_sums
from headstart.linear.loss_gpu import GpuBlock
from headstart.linear.model import LinearModel


@pytest.mark.parametrize("exact", [False, True])
def test_a_gpu_sums_what_the_cpu_sums(exact: bool) -> None:
    """The code for a GPU, which torch runs on the CPU here, gives the loss and gradients that NumPy gives."""
    random = np.random.default_rng(0)
    x, classes = random.normal(size=(50, 7)).astype(np.float32), random.integers(0, 4, 50)
    sample_weights = random.random(50)
    model = LinearModel(random.normal(size=(4, 7)), random.normal(size=4))
    block = RowBlock(np.arange(50), x)
    mine = GpuBlock(block, classes, sample_weights, device="cpu", exact=exact).loss_sums(model)
    theirs = loss_sums(x.astype(np.float64) if exact else x, classes, sample_weights, model)
    for one, other in zip(mine, theirs, strict=True):
        tolerance = 1e-12 if exact else 1e-4
        assert np.allclose(np.asarray(one, float), np.asarray(other, float), rtol=tolerance, atol=tolerance)
