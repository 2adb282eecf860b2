"""Logistic regression against scikit-learn's, and what a fit costs. `test_gpu_rows` has the fits on a GPU."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from headstart.linear import logistic
from headstart.linear.logistic import fit_logistic
from headstart.linear.loss import LossSums, loss_sums
from headstart.linear.model import LinearModel
from headstart.linear.targets import Targets
from tests.support.head_data import RESOURCES, DesignsOf, clusters, equal_targets, standardisation


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize(("num", "dim"), [(90, 12), (40, 100)], ids=["many rows", "few rows"])
@pytest.mark.parametrize("c", [0.01, 1.0])
@pytest.mark.slow
def test_the_solution_equals_scikit_learns(
    designs_of: DesignsOf, num: int, dim: int, num_classes: int, c: float
) -> None:
    """On standardised rows with class weights, probabilities agree with scikit-learn's to 1e-4 from any start."""
    x, classes = clusters(num, dim, num_classes)
    sample_weights = np.linspace(0.5, 2, num_classes)[classes]
    designs = designs_of(x, Targets(classes, sample_weights, num_classes))
    design = designs.design(designs.all_rows())
    mean, scale = standardisation(x.astype(np.float64), sample_weights)
    oracle = LogisticRegression(C=c, max_iter=10_000, tol=1e-10).fit((x - mean) / scale, classes, sample_weights)
    near = design.normal_equations.solve(c)
    for start in (near, design.normal_equations.solve(100 * c), LinearModel(near.weight * 50, near.bias * 50)):
        done = fit_logistic(design, designs.targets, c, start, 1000, tol=1e-7, resources=RESOURCES)
        model = design.to_embedding_columns(done.model)
        probabilities = softmax(x.astype(np.float64) @ model.weight.T + model.bias, axis=1)

        assert done.converged
        assert np.abs(probabilities - oracle.predict_proba((x - mean) / scale)).max() < 1e-4


def test_a_fit_that_does_not_converge_says_so(designs_of: DesignsOf) -> None:
    """A fit that ends at its largest number of iterations returns `converged` as false."""
    x, classes = clusters(90, 12, 3)
    designs = designs_of(x, equal_targets(classes, 3))
    design = designs.design(designs.all_rows())
    start = design.normal_equations.solve(1.0)

    assert not fit_logistic(design, designs.targets, 1.0, start, 2, tol=1e-7, resources=RESOURCES).converged


@pytest.mark.parametrize("present", [1, 2])
def test_a_class_without_rows_is_improbable(designs_of: DesignsOf, present: int) -> None:
    """A class without rows has finite logits, and its probability is at most 1 / (N + 1) for every row."""
    x, classes = clusters(60, 12, present)
    designs = designs_of(x, equal_targets(classes, 4))
    design = designs.design(designs.all_rows())
    start = design.normal_equations.solve(1.0)
    done = fit_logistic(design, designs.targets, 1.0, start, 1000, tol=1e-7, resources=RESOURCES)
    model = design.to_embedding_columns(done.model)
    probabilities = softmax(x @ model.weight.T + model.bias, axis=1)

    assert np.isfinite(model.weight).all()
    assert (probabilities[:, present:].mean(axis=0) > 0).all()
    assert (probabilities[:, present:] < 1.01 / 61).all()


def test_the_scale_of_the_start_costs_no_passes(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts that differ only by a factor need the same number of passes through the rows."""
    x, classes = clusters(300, 12, 5)
    designs = designs_of(x, equal_targets(classes, 5))
    design = designs.design(designs.all_rows())
    passes: list[LossSums] = []

    def counted(*given: Any) -> LossSums:
        passes.append(loss_sums(*given))
        return passes[-1]

    monkeypatch.setattr("headstart.linear.passes.loss_sums", counted)
    start, counts = design.normal_equations.solve(0.1), []
    for factor in (1.0, 30.0):
        scaled = LinearModel(start.weight * factor, start.bias * factor)
        fit_logistic(design, designs.targets, 0.1, scaled, 1000, tol=1e-2, resources=RESOURCES)
        counts.append(len(passes))

    assert counts[1] == 2 * counts[0]


def test_a_fit_frees_its_matrices_when_it_ends(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The objective of a fit is freed without Python's collection of cycles, so many fits need the memory of one."""
    objectives: list[weakref.ref[Any]] = []

    class Watched(logistic._Objective):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            objectives.append(weakref.ref(self))

    monkeypatch.setattr(logistic, "_Objective", Watched)
    x, classes = clusters(90, 12, 3)
    designs = designs_of(x, equal_targets(classes, 3))
    design = designs.design(designs.all_rows())
    start = design.normal_equations.solve(0.1)
    gc.disable()
    try:
        fit_logistic(design, designs.targets, 0.1, start, 100, tol=1e-7, resources=RESOURCES)

        assert [objective() for objective in objectives] == [None]
    finally:
        gc.enable()
