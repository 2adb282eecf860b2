"""The one-standard-error rule, the kind of head, and how well fits without a fold stand for exact ones."""

from dataclasses import replace

import numpy as np
import pytest

from headstart.linear import selection
from headstart.linear.selection import (
    choose_kind,
    cross_validate_logistic,
    cross_validate_ridge,
    one_standard_error_choice,
    ridge_fold_models,
)
from tests.support.head_data import DesignsOf, clusters, equal_targets


def test_ties_go_to_the_simplest_choice() -> None:
    """The first choice within one standard error of the best one is taken, by paired differences of the folds."""
    noise = np.array([0.0, 0.3, -0.2, 0.1, -0.1])[:, None]  # of the folds, the same for every choice
    clear = np.array([[0.5, 0.2, 0.1, 0.2]]) + noise
    wobble = np.array([[0.0, 0.001], [0.0, -0.002], [0.0, 0.002], [0.0, -0.001], [0.0, -0.0005]])

    assert one_standard_error_choice(list(clear.T)) == 2
    near = np.concatenate([clear[:, :1], clear[:, 2:3] + wobble], axis=1)
    assert one_standard_error_choice(list(near.T)) == 1
    assert one_standard_error_choice(list(np.zeros((3, 5)))) == 0


def test_more_standard_errors_take_simpler_choices() -> None:
    """With more standard errors, a choice counts as good that is clearly worse by one."""
    best = np.zeros(20, dtype=np.float32)
    worse = np.where(np.arange(20) < 3, 1.0, 0.0).astype(np.float32)  # 0.15 on average, with a standard error of 0.082

    assert [one_standard_error_choice([worse, best], num) for num in (1.0, 1.5, 2.0)] == [1, 1, 0]


@pytest.mark.parametrize("c", [0.1, 100.0, 1e5])
def test_fits_without_a_fold_score_as_exact_ones(
    designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch, c: float
) -> None:
    """Log loss and temperature are those of fits that go on to the tolerance of the final fit, at any strength."""
    x, classes = clusters(300, 20, 6)
    designs = designs_of(x, equal_targets(classes, 6))
    starts = ridge_fold_models(designs, 0.1)
    quick = cross_validate_logistic(designs, c, starts, 5000, 1e-7).score
    monkeypatch.setattr(selection, "_FOLD_TOL", 0.0)
    exact = cross_validate_logistic(designs, c, starts, 5000, 1e-7).score

    assert quick.log_loss == pytest.approx(exact.log_loss, abs=1e-3)
    assert quick.temperature == pytest.approx(exact.temperature, rel=1e-2)


def test_rows_of_a_class_that_no_other_fold_has_do_not_choose_the_kind(
    designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of classes with one image nothing can be learnt without that image, so their losses play no part."""
    random = np.random.default_rng(0)
    classes = np.array([*np.arange(90) % 3, 3, 4, 5, 6])
    x = (np.eye(7, 12)[classes] * 3 + random.normal(size=(94, 12))).astype(np.float32)
    designs = designs_of(x, equal_targets(classes, 7))
    ridge = cross_validate_ridge(designs, 1.0)
    better = {"ridge": ridge.losses.copy(), "logistic": ridge.losses + np.where(classes < 3, -0.01, 5.0)}
    score_folds = selection.score_folds
    monkeypatch.setattr(
        selection, "score_folds", lambda kind, *given: replace(score_folds(kind, *given), losses=better[kind])
    )
    chosen = choose_kind(designs, 1.0, 100, 1e-4)

    assert chosen.kind == "logistic"
