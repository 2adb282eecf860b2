"""One track at two revisions: scores, intervals, classes and images."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import log_loss

from headstart.revisions.comparison import TrackComparison, compare_track
from headstart.tables.pairs import pair
from headstart.tables.predictions import Predictions
from tests.support.revisions import digest, predictions


def compare(before: Predictions, after: Predictions) -> TrackComparison:
    """Compare with few resamples."""
    return compare_track("head", pair(before, after), 300, 0)


def draw(num: int, accuracy: float, seed: int) -> Predictions:
    """Return predictions that are right about a random share of the images."""
    return predictions((np.random.default_rng(seed).random(num) < accuracy).tolist(), seed=seed)


def test_scores_are_those_of_scikit_learn() -> None:
    """Accuracy and log loss before and after are scikit-learn's on the common images."""
    before, after = draw(300, 0.7, 1), draw(300, 0.8, 2)

    found = compare(before, after)

    assert found.accuracy is not None
    assert found.log_loss is not None
    for one, accuracy, loss in (
        (before, found.accuracy.before, found.log_loss.before),
        (after, found.accuracy.after, found.log_loss.after),
    ):
        assert accuracy == pytest.approx(one.accuracy)
        assert loss == pytest.approx(log_loss(one.labels, one.probabilities, labels=one.classes))
    assert found.log_loss.difference == pytest.approx(found.log_loss.after - found.log_loss.before)


def test_the_interval_of_the_log_loss_is_near_scipys() -> None:
    """The paired bootstrap interval is near SciPy's, and much narrower than that of two unpaired scores."""
    before = draw(400, 0.7, 1)
    after = dataclasses.replace(before, logits=before.logits * 1.5)

    found = compare(before, after).log_loss

    rows = np.arange(400)
    targets = [before.classes.index(label) for label in before.labels]
    losses = [-one.log_probabilities[rows, targets] for one in (before, after)]
    oracle = bootstrap((losses[1] - losses[0],), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.01)
    unpaired = 2 * 1.96 * np.sqrt((losses[0].var() + losses[1].var()) / 400)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low < unpaired / 2


def test_equal_predictions_have_no_difference() -> None:
    """A revision against itself: nothing moved, p is 1, and the interval of probabilities has no width."""
    one = draw(60, 0.8, 1)

    found = compare(one, one)

    assert (found.verdict, found.p_value) == ("no clear difference", 1.0)
    assert found.newly_right == found.newly_wrong == []
    assert found.log_loss is not None
    assert (found.log_loss.difference, found.log_loss.low, found.log_loss.high) == (0.0, 0.0, 0.0)
    assert found.calibration_error is not None
    assert found.calibration_error.low == 0.0


@pytest.mark.parametrize(("before", "after", "verdict"), [(0.5, 0.9, "better"), (0.9, 0.5, "worse")])
def test_a_large_difference_is_a_verdict(before: float, after: float, verdict: str) -> None:
    """Where p is below 0.05, the second revision is called better or worse."""
    assert compare(draw(200, before, 1), draw(200, after, 2)).verdict == verdict


def test_images_that_moved_are_listed_with_both_answers() -> None:
    """Each image that only one gets right is listed under the right heading, with what both say and how sure."""
    found = compare(predictions([True, False, True, False]), predictions([False, True, True, False], seed=1))

    (wrong,), (right,) = found.newly_wrong, found.newly_right
    assert (wrong.digest, wrong.label, wrong.before, wrong.after) == (digest(0), "ant", "ant", "bee")
    assert (right.digest, right.label, right.before, right.after) == (digest(1), "bee", "cat", "bee")
    assert 1 / 3 < wrong.confidence_before < 1
    moved = {one.name: (one.newly_right, one.newly_wrong) for one in found.classes if one.is_moved}
    assert moved == {"ant": (0, 1), "bee": (1, 0)}
    assert sum(one.num_images for one in found.classes) == 4


def test_an_unknown_class_counts_in_the_accuracy_only() -> None:
    """Images of a class that the first revision lacks are wrong there, and take no part in the log loss."""
    before = predictions([True] * 30, classes=["ant", "bee"])
    after = predictions([True] * 30)

    found = compare(before, after)

    assert found.num_new_classes == 10
    assert found.accuracy is not None
    assert found.log_loss is not None
    assert found.accuracy.after == 1.0
    assert np.isfinite([found.log_loss.before, found.log_loss.after]).all()


def test_few_images_of_a_class_give_no_interval() -> None:
    """With four images of a class, probabilities have a difference, and no bootstrap interval."""
    found = compare(predictions([True] * 12), predictions([True] * 12, seed=1)).log_loss

    assert found is not None
    assert found.low is found.high is None


def test_without_a_common_image_nothing_is_compared() -> None:
    """Revisions that tested other images have no scores and no verdict."""
    found = compare(predictions([True] * 5), predictions([True] * 5, first=100))

    assert (found.num_images, found.num_only_before, found.num_only_after) == (0, 5, 5)
    assert found.verdict == "nothing to compare"
    assert found.accuracy is found.log_loss is None
