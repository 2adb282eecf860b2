"""Cross-validation against refits by scikit-learn, and the one-standard-error rule."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from headstart.linear.selection import one_standard_error_choice, ridge_errors
from headstart.linear.targets import Targets
from tests.support.head_data import FOLDS, DesignsOf, clusters, standardisation


@pytest.mark.parametrize(("num", "dim"), [(90, 12), (40, 100)], ids=["many rows", "few rows"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_errors_of_the_folds_equal_brute_force_refits(
    designs_of: DesignsOf, num: int, dim: int, weighted: bool
) -> None:
    """For every fold and c, the held-out error equals that of scikit-learn's Ridge on standardised rows."""
    x, classes = clusters(num, dim, 3)
    sample_weights = np.array([1.0, 0.5, 2.5])[classes] if weighted else np.ones(num)
    designs = designs_of(x, Targets(classes, sample_weights, 3))
    c_grid = [1e-4, 1e-2, 1.0, 100.0]
    errors, models = ridge_errors(designs, c_grid)
    one_hot, wide = np.eye(3)[classes], x.astype(np.float64)
    for fold in range(FOLDS):
        held = designs.rows.folds == fold
        mean, scale = standardisation(wide[~held], sample_weights[~held])
        for number, c in enumerate(c_grid):
            oracle = Ridge(alpha=1 / c, solver="svd")
            oracle.fit((wide[~held] - mean) / scale, one_hot[~held], sample_weights[~held])
            predicted = oracle.predict((wide[held] - mean) / scale)
            squares = ((predicted - one_hot[held]) ** 2).sum(axis=1)
            expected = np.average(squares, weights=sample_weights[held])
            model = models[fold][number]

            assert errors[fold, number] == pytest.approx(expected, rel=1e-8, abs=1e-8)
            assert np.allclose(wide[held] @ model.weight.T + model.bias, predicted, atol=1e-6)


def test_ties_go_to_the_stronger_regularisation() -> None:
    """The smallest c within one standard error of the best c is chosen, by paired differences of the folds."""
    noise = np.array([0.0, 0.3, -0.2, 0.1, -0.1])[:, None]  # of the folds, the same for every c
    clear = np.array([[0.5, 0.2, 0.1, 0.2]]) + noise
    wobble = np.array([[0.0, 0.001], [0.0, -0.002], [0.0, 0.002], [0.0, -0.001], [0.0, -0.0005]])

    assert one_standard_error_choice(clear) == 2
    assert one_standard_error_choice(np.concatenate([clear[:, :1], clear[:, 2:3] + wobble], axis=1)) == 1
    assert one_standard_error_choice(np.zeros((5, 3))) == 0
