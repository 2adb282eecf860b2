"""The temperature against a plain search, and the log loss against SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from headstart.linear.calibration import fit_temperature, log_losses


@given(st.floats(0.05, 20), st.integers(0, 100))
def test_the_temperature_is_the_best_one(scale: float, seed: int) -> None:
    """The temperature is the one that a plain search finds, and it doubles if the logits double."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 4, 200)
    logits = (np.eye(4)[classes] * 2 + random.normal(size=(200, 4)) * 2) * scale

    def loss(log_temperature: float) -> float:
        losses = -log_softmax(logits / np.exp(log_temperature), axis=1)
        return float((201 / 202 * losses[np.arange(200), classes] + losses.mean(axis=1) / 202).mean())

    found = fit_temperature(logits, classes)
    best = minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-9})

    assert found == pytest.approx(np.exp(best.x), rel=1e-3)
    assert fit_temperature(2 * logits, classes) == pytest.approx(2 * found, rel=1e-4)
    assert loss(np.log(found)) == pytest.approx(best.fun, abs=1e-7)


def test_rows_that_are_all_right_make_no_certainties() -> None:
    """If the model is right on all rows, its calibrated probabilities still stay below 1 - 2 / 3 / (N + 2)."""
    classes = np.arange(30) % 3
    probabilities = softmax(np.eye(3)[classes] / fit_temperature(np.eye(3)[classes], classes), axis=1)

    assert probabilities.max() == pytest.approx(1 - 2 / 3 / 32, abs=1e-6)


def test_the_log_loss_is_minus_the_log_of_the_true_class() -> None:
    """The log loss of each row is SciPy's log_softmax of the true class, with logits divided by the temperature."""
    classes = np.arange(30) % 3

    assert log_losses(np.eye(3)[classes], classes, 1.0).mean() == pytest.approx(-log_softmax([1, 0, 0])[0])
    assert log_losses(np.eye(3)[classes], classes, 0.5).mean() == pytest.approx(-log_softmax([2, 0, 0])[0])
