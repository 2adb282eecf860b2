"""Design matrices: projection, standardisation by layer, and ridge regression on any rows."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from headstart.linear.design import column_scale
from headstart.linear.logistic import fit_logistic
from headstart.linear.targets import Targets
from tests.support.head_data import RESOURCES, DesignsOf, clusters, equal_targets, standardisation


def test_a_model_is_the_same_map_in_all_columns(designs_of: DesignsOf) -> None:
    """A model that is converted from projected columns to embeddings and back has the same weights and logits."""
    x, classes = clusters(40, 100, 3)
    designs = designs_of(x, equal_targets(classes, 3))
    design = designs.design(designs.without_fold(0))
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


@pytest.mark.parametrize(("num", "dim"), [(90, 12), (40, 100)], ids=["many rows", "few rows"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_regression_is_that_of_scikit_learn(designs_of: DesignsOf, num: int, dim: int, weighted: bool) -> None:
    """Without each fold, on all rows and on any subset, the model is scikit-learn's Ridge on standardised rows."""
    x, classes = clusters(num, dim, 3)
    sample_weights = np.array([1.0, 0.5, 2.5])[classes] if weighted else np.ones(num)
    designs = designs_of(x, Targets(classes, sample_weights, 3))
    one_hot, wide = np.eye(3)[classes], x.astype(np.float64)
    for mask in (designs.without_fold(0), designs.without_fold(1), designs.all_rows(), np.arange(num) % 7 != 0):
        mean, scale = standardisation(wide[mask], sample_weights[mask])
        for c in (1e-4, 1e-2, 1.0, 100.0):
            oracle = Ridge(alpha=1 / c, solver="svd")
            oracle.fit((wide[mask] - mean) / scale, one_hot[mask], sample_weights[mask])
            model = designs.ridge(mask, c)

            assert np.allclose(model.logits(wide), oracle.predict((wide - mean) / scale), atol=1e-6)
        assert np.allclose(designs.standardisation(mask), (mean, scale), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("offset", [0, 90])
def test_a_large_problem_in_float32_has_nearly_the_same_models(
    offset: float, designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models of a large problem, in float32, agree with those in float64, also for columns far from 0."""
    x, classes = clusters(90, 12, 3)
    x = x[:, 3:] / x[:, 3:].std(axis=0) + np.float32(offset)
    targets, models = equal_targets(classes, 3), []
    for large in (10**9, 0):
        monkeypatch.setattr("headstart.linear.design._LARGE", large)
        designs = designs_of(x, targets)
        models.append(designs.ridge(designs.without_fold(0), 1.0))

    assert np.allclose(models[0].weight, models[1].weight, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(models[0].weight, models[1].weight)


def test_a_held_out_fold_does_not_change_the_models_without_it(designs_of: DesignsOf) -> None:
    """If all embeddings of one fold are replaced, ridge and logistic regression without this fold stay the same."""
    x, classes = clusters(90, 12, 3)
    models = []
    for _ in range(2):
        designs = designs_of(x, equal_targets(classes, 3))
        mask = designs.without_fold(1)
        design, ridge = designs.design(mask), designs.ridge(mask, 0.1)
        start = design.to_design_columns(ridge)
        logistic = fit_logistic(design, designs.targets, 0.1, start, 100, tol=1e-7, resources=RESOURCES).model
        models.append([ridge, design.to_embedding_columns(logistic)])
        x = np.where((designs.rows.folds == 1)[:, None], np.float32(5), x)
    for one, other in zip(*models, strict=True):
        assert np.allclose(one.weight, other.weight, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("num", [40, 200])
def test_a_constant_column_is_as_good_as_none(designs_of: DesignsOf, num: int) -> None:
    """Columns that are 0.1 everywhere give the model of columns that are 0, with weights, rows or columns the more."""
    x, classes = clusters(num, 30, 3)
    x = (x[:, 4:] - x[:, 4:].mean(axis=0)) / x[:, 4:].std(axis=0)
    weights = np.random.default_rng(0).uniform(0.2, 5, size=num)
    models = []
    for constant in (0.0, 0.1):
        padded = np.concatenate([x, np.full((num, 60), constant, dtype=np.float32)], axis=1)
        designs = designs_of(padded, Targets(classes, weights, 3))
        models.append(designs.ridge(designs.all_rows(), 1.0).weight[:, :26])

    np.testing.assert_allclose(models[1], models[0], rtol=1e-3, atol=1e-6)


def test_layers_of_any_width_weigh_the_same() -> None:
    """After scaling, the variances of each layer have nearly the same sum, and the sum over all columns is kept."""
    random = np.random.default_rng(0)
    variance = np.concatenate([random.uniform(9, 11, 10), random.uniform(0.09, 0.11, 40)])
    columns = {"narrow": slice(0, 10), "wide": slice(10, 50)}
    scaled = variance / column_scale(variance, columns) ** 2
    alone = variance[:10] / column_scale(variance[:10], {"narrow": slice(0, 10)}) ** 2

    assert scaled[:10].sum() == pytest.approx(scaled[10:].sum(), rel=0.02)
    assert scaled.sum() == pytest.approx(50 / 2, rel=0.02)  # each column alone has about 1 / 2, because of the floor
    assert alone.sum() == pytest.approx(10 / 2, rel=0.02)
