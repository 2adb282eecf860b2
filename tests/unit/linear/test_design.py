"""Design matrices: projection, precision, and the fold that is left out."""

import numpy as np
import pytest

from headstart.linear.logistic import fit_logistic
from headstart.linear.selection import ridge_errors
from tests.support.head_data import RESOURCES, DesignsOf, clusters, equal_targets


def test_a_model_is_the_same_map_in_all_columns(designs_of: DesignsOf) -> None:
    """A model that is converted from projected columns to embeddings and back has the same weights and logits."""
    x, classes = clusters(40, 100, 3)
    design = designs_of(x, equal_targets(classes, 3)).without_fold(0)
    model = design.normal_equations.solve(0.1)
    on_embeddings = design.to_embedding_columns(model)
    back = design.to_design_columns(on_embeddings)
    (block,) = design.blocks()

    assert design.basis is not None
    assert model.weight.shape[1] < 40
    assert np.allclose(back.weight, model.weight, rtol=1e-6, atol=1e-9)
    assert np.allclose(back.bias, model.bias)
    logits = x[block.positions].astype(np.float64) @ on_embeddings.weight.T + on_embeddings.bias
    assert np.allclose(model.logits(block.x), logits, atol=1e-5)


@pytest.mark.parametrize("offset", [0, 90])
def test_a_large_problem_in_float32_has_nearly_the_same_errors(
    offset: float, designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The held-out errors of a large problem, in float32, agree with those in float64, also for columns far from 0."""
    x, classes = clusters(90, 12, 3)
    x = x[:, 3:] / x[:, 3:].std(axis=0) + np.float32(offset)
    targets = equal_targets(classes, 3)
    c_grid = [0.01, 1.0, 1e4]
    exact, _ = ridge_errors(designs_of(x, targets), c_grid)
    monkeypatch.setattr("headstart.linear.design._LARGE", 0)
    designs = designs_of(x, targets)
    nearly, _ = ridge_errors(designs, c_grid)

    assert designs.dtype == np.float32
    assert np.allclose(exact, nearly, rtol=2e-6)
    assert not np.array_equal(exact, nearly)


def test_a_held_out_fold_does_not_change_the_models_without_it(designs_of: DesignsOf) -> None:
    """If all embeddings of one fold are replaced, ridge and logistic regression without this fold stay the same."""
    x, classes = clusters(90, 12, 3)
    models = []
    for _ in range(2):
        designs = designs_of(x, equal_targets(classes, 3))
        design = designs.without_fold(1)
        ridge = design.normal_equations.solve(0.1)
        logistic = fit_logistic(design, designs.targets, 0.1, ridge, 100, tol=1e-7, resources=RESOURCES).model
        models.append([design.to_embedding_columns(ridge), design.to_embedding_columns(logistic)])
        x = np.where((designs.rows.folds == 1)[:, None], np.float32(5), x)
    for one, other in zip(*models, strict=True):
        assert np.allclose(one.weight, other.weight, rtol=1e-6, atol=1e-9)
