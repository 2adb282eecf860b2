"""The head's stochastic gradient descent: its steps against torch's, and the rows that it trains on."""

import numpy as np
import pytest
import torch

from stages.head.params import SgdParams
from stages.head.sgd import Optimizer, fit_sgd
from tests.support.head_data import DesignsOf, clusters, equal_targets


@pytest.mark.parametrize("hidden", [1, 2], ids=["held-out fold", "inner validation"])
def test_sgd_does_not_train_on_the_rows_that_score_it(designs_of: DesignsOf, hidden: int) -> None:
    """If the embeddings of the held-out fold or of the inner validation are replaced, the weights stay the same."""
    params = SgdParams(optimizer="sgd", learning_rate=0.01, momentum=0.9, step_epochs=7, gamma=0.1, batch=16, epochs=1)
    x, classes = clusters(90, 12, 3)
    models = []
    for _ in range(2):
        designs = designs_of(x, equal_targets(classes, 3))
        models.append(fit_sgd(designs.rows, designs.targets, 1, params, 0))
        x = np.where((designs.rows.folds == hidden)[:, None], np.float32(5), x)

    assert np.allclose(models[0].weight, models[1].weight, rtol=1e-6, atol=1e-9)
    assert np.ptp(models[0].weight) > 0


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_the_optimizers_are_torchs(optimizer: str) -> None:
    """Twenty steps with momentum end where torch.optim ends."""
    params = SgdParams.model_validate(
        {"optimizer": optimizer, "learning_rate": 0.1, "momentum": 0.9, "step_epochs": 1, "gamma": 1.0, "epochs": 1,
         "batch": 1}
    )  # fmt: skip
    start = np.random.default_rng(0).normal(size=(3, 4))
    mine = Optimizer(params, start.copy())
    values = torch.nn.Parameter(torch.tensor(start))
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.RMSprop
    theirs = kind([values], lr=0.1, momentum=0.9)
    for _ in range(20):
        mine.step(mine.values**3 - 1, 0.1)
        values.grad = values.detach() ** 3 - 1
        theirs.step()

    assert np.allclose(mine.values, values.detach().numpy(), rtol=1e-10)
