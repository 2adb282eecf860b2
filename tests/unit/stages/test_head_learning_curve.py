"""The learning curve: its points, and what it says about twice as many images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from headstart.tables.intervals import wilson_interval
from stages.head.learning_curve import doubling_gain, learning_curve
from tests.support.head_data import DesignsOf, equal_targets


def test_the_learning_curve_rises_with_its_sizes(designs_of: DesignsOf) -> None:
    """The curve has at least six sizes, up to all training rows. Each is scored on held-out rows, with an interval."""
    random = np.random.default_rng(0)
    classes = np.arange(300) % 3
    x = (np.eye(3)[classes] @ random.normal(size=(3, 12)) + random.normal(size=(300, 12)) * 0.8).astype(np.float32)
    designs = designs_of(x, equal_targets(classes, 3), num_folds=5)
    whole = learning_curve(designs, 0.1, seed=0)
    curve = whole.points
    guesses = equal_targets(random.permutation(classes), 3)
    noise = learning_curve(designs_of(x, guesses, num_folds=5), 0.1, seed=0).points

    assert len(curve) >= 6
    assert curve[-1].num_images == 240
    assert curve[0].accuracy < curve[-1].accuracy
    assert all(0 <= point.accuracy_low <= point.accuracy <= point.accuracy_high <= 1 for point in curve)
    assert whole.doubling_gain_low < whole.doubling_gain < whole.doubling_gain_high
    assert noise[-1].accuracy == pytest.approx(1 / 3, abs=0.12)


@given(st.floats(0.1, 0.6), st.floats(0.05, 1.5))
def test_the_gain_of_doubling_follows_the_curves_power_law(error: float, power: float) -> None:
    """If the errors are exactly a power of the number of images, the gain is what this law gives for twice as many."""
    sizes = [20, 40, 80, 160, 320, 640]
    errors = error * (np.array(sizes) / 20) ** -power
    gain, margin = doubling_gain(sizes, np.tile(1 - errors, (5, 1)), num_images=10**9)
    at_all = errors[-1] * (10**9 / 640) ** -power

    assert gain == pytest.approx(at_all * (1 - 2**-power), rel=1e-6)
    assert margin == pytest.approx(0, abs=1e-9)


def test_the_interval_of_the_gain_holds_the_truth_as_often_as_it_says() -> None:
    """On curves with noisy folds, 95 % intervals by the standard error hold the truth in about 95 % of the draws."""
    sizes, random = [20, 40, 80, 160], np.random.default_rng(0)
    accuracies = 1 - 0.4 * (np.array(sizes) / 20) ** -0.4
    truth, _ = doubling_gain(sizes, np.tile(accuracies, (5, 1)), num_images=200)
    drawn = [doubling_gain(sizes, accuracies + random.normal(0, 0.02, (5, 4)), num_images=200) for _ in range(400)]
    gains, errors = np.array(drawn).T

    assert np.mean(np.abs(gains - truth) < stdtrit(4, 0.975) * errors) == pytest.approx(0.95, abs=0.03)


def test_images_that_are_all_right_are_no_proof_that_more_would_not_help(designs_of: DesignsOf) -> None:
    """If all of a few images are right, the upper end of the gain is the error that the accuracy's interval allows."""
    classes = np.arange(24) % 3
    designs = designs_of((np.eye(3)[classes] * 9).astype(np.float32), equal_targets(classes, 3))
    curve = learning_curve(designs, 1.0, seed=0)

    assert curve.points[-1].accuracy == 1
    assert curve.doubling_gain == pytest.approx(0, abs=0.02)
    assert curve.doubling_gain_low == 0
    assert curve.doubling_gain_high == pytest.approx(1 - wilson_interval(1.0, 24)[0])


def test_a_curve_that_falls_promises_no_loss() -> None:
    """If noise makes more images look worse, the gain is zero."""
    assert doubling_gain([10, 20, 40], np.tile([0.9, 0.8, 0.7], (5, 1)), num_images=50) == (0, 0)


def test_a_curve_that_cannot_rise_promises_nothing() -> None:
    """A curve without any error, or with a single size, gives no gain."""
    assert np.allclose(doubling_gain([20, 40, 80, 160], np.ones((5, 4)), num_images=100), 0)
    assert doubling_gain([3], np.full((5, 1), 0.5), num_images=100) == (0, 0)
