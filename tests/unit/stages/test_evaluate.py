"""The reported numbers equal their definitions, for any predictions."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import bootstrap
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    auc,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
    top_k_accuracy_score,
)

from headstart.tables.evaluate import (
    ClassScore,
    CoveragePoint,
    PrecisionRecallPoint,
    ReliabilityPoint,
    RocPoint,
    ScoreRow,
)
from headstart.tables.intervals import resamples, wilson_interval
from headstart.tables.predictions import Predictions
from headstart.tables.rows import read_rows
from stages.evaluate import curves, results
from stages.evaluate.scores import Outcomes, calibration_error, class_scores, score
from stages.evaluate.scores import confusion_matrix as our_confusion


def predictions(labels: str, logits: list[list[float]], classes: str = "abc") -> Predictions:
    """Return predictions of images labelled by letters."""
    names = [f"{position}.png" for position in range(len(labels))]
    return Predictions(names, names, list(labels), list(classes), np.array(logits, dtype=np.float64))


def many(num: int, classes: str, seed: int = 0) -> Predictions:
    """Return predictions that are right more often than not."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, len(classes), num)
    logits = random.normal(size=(num, len(classes))) + 1.5 * np.eye(len(classes))[targets]
    return predictions("".join(classes[target] for target in targets), logits.tolist(), classes)


def values(found: Predictions) -> dict[str, float]:
    """Return the scores without their intervals."""
    scores = score(Outcomes.of(found), len(found.classes), 100, 0)
    return {name: one.value for name, one in scores.items()}


rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(st.floats(-30, 30), min_size=3, max_size=3)), min_size=1, max_size=30
)


def test_numbers_by_hand() -> None:
    """A case small enough to work out: 3 of 4 right, one class of two missed once."""
    numbers = values(predictions("aabb", [[0, -9, -99], [0, -9, -99], [-9, 0, -99], [0, -9, -99]]))
    p = 1 / (1 + math.exp(-9))

    assert numbers["accuracy"] == 0.75
    assert numbers["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert numbers["macro_f1"] == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)
    assert numbers["log_loss"] == pytest.approx((3 * math.log(1 + math.exp(-9)) + math.log(1 + math.exp(9))) / 4)
    assert numbers["brier"] == pytest.approx((3 * 2 * (1 - p) ** 2 + 2 * p**2) / 4)
    assert numbers["calibration_error"] == pytest.approx(p - 0.75)
    assert set(numbers) == {"accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "calibration_error"}


@given(rows)
@settings(deadline=None)
def test_numbers_are_those_of_their_definitions(data: list[tuple[str, list[float]]]) -> None:
    """For any predictions, absent and never-predicted classes, ties and one class included, they equal an oracle's."""
    found = predictions("".join(label for label, _ in data), [logits for _, logits in data])
    numbers = values(found)
    probabilities = softmax(found.logits, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracle's, of predicted classes that do not occur
        expected = {
            "accuracy": np.mean(np.array(found.labels) == np.array(found.predicted)),
            "balanced_accuracy": balanced_accuracy_score(found.labels, found.predicted),
            "macro_f1": f1_score(found.labels, found.predicted, average="macro"),
        }
    truth = np.array(found.labels)[:, None] == np.array(found.classes)

    assert {name: numbers[name] for name in expected} == pytest.approx(expected)
    assert numbers["brier"] == pytest.approx(((probabilities - truth) ** 2).sum(axis=1).mean(), abs=1e-9)
    own = probabilities[truth]
    assert numbers["log_loss"] == pytest.approx(-np.log(own).mean(), rel=1e-6, abs=1e-9)
    # The oracle clips probabilities near 0.
    if own.min() > 1e-9:
        assert numbers["log_loss"] == pytest.approx(
            log_loss(found.labels, probabilities, labels=found.classes), abs=1e-6
        )


@given(rows, st.permutations("abc"), st.floats(-5, 5))
@settings(deadline=None)
def test_order_of_classes_and_a_common_shift_change_nothing(
    data: list[tuple[str, list[float]]], order: list[str], shift: float
) -> None:
    """Classes are carried by name, and softmax knows no common offset."""
    labels = "".join(label for label, _ in data)
    logits = [values for _, values in data]
    if any(len(set(values)) < 3 for values in logits):
        return  # ties go to the first class, whichever that is
    permuted = [[values["abc".index(name)] + shift for name in order] for values in logits]
    if any(len(set(values)) < 3 for values in permuted):
        return

    ours, theirs = values(predictions(labels, permuted, "".join(order))), values(predictions(labels, logits))
    del ours["calibration_error"], theirs["calibration_error"]  # a last bit may move a confidence to the next bin
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_top_five_of_many_classes() -> None:
    """With more than ten classes there is a top-5 accuracy, and it is scikit-learn's."""
    found = many(200, "abcdefghijkl")
    numbers = values(found)
    expected = top_k_accuracy_score(found.labels, found.logits, k=5, labels=list(found.classes))

    assert numbers["top5_accuracy"] == pytest.approx(expected)
    assert numbers["accuracy"] < numbers["top5_accuracy"] < 1


def test_intervals_are_those_of_the_bootstrap() -> None:
    """On images of one class, where there is one stratum, they are scipy's percentile intervals but for chance."""
    found = predictions("a" * 120, many(120, "abc").logits.tolist())
    outcomes = Outcomes.of(found)
    scores = score(outcomes, 3, 4000, 0)
    for name, each in (("log_loss", outcomes.log_loss), ("brier", outcomes.brier)):
        oracle = bootstrap((each,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1))
        low, high = oracle.confidence_interval
        assert (scores[name].low, scores[name].high) == pytest.approx((low, high), abs=0.1 * (high - low))
    assert (scores["accuracy"].low, scores["accuracy"].high) == wilson_interval(float(outcomes.is_right.mean()), 120)


def test_intervals_hold_the_value_and_shrink_with_more_images() -> None:
    """Every interval lies around its value, and sixteen times as many images make it about a quarter as wide."""
    few, lots = (score(Outcomes.of(many(num, "abcdefghijkl")), 12, 400, 0) for num in (150, 2400))
    for name, one in few.items():
        if name == "calibration_error":
            assert (one.low, one.high) == (None, None)
            continue
        other = lots[name]
        assert one.low is not None
        assert one.high is not None
        assert other.low is not None
        assert other.high is not None
        assert one.low < one.value < one.high
        assert 0.15 < (other.high - other.low) / (one.high - one.low) < 0.4


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 100))
def test_draws_keep_every_stratum(strata: list[int], seed: int) -> None:
    """Each draw has as many rows of each stratum as there are, from that stratum alone."""
    numbers = np.array(strata)
    for counts in resamples(numbers, 5, seed):
        assert np.bincount(numbers, counts, minlength=5).tolist() == np.bincount(numbers, minlength=5).tolist()
    assert [one.tolist() for one in resamples(numbers, 3, seed)] == [
        one.tolist() for one in resamples(numbers, 3, seed)
    ]


def test_no_interval_from_a_handful_of_images() -> None:
    """Draws from four images of a class differ too little: no interval rather than one that is too narrow."""
    found = many(60, "abc")
    few = predictions("aaaa" + "b" * 30, found.logits[:34].tolist())
    scores = score(Outcomes.of(few), 3, 100, 0)

    assert (scores["log_loss"].low, scores["macro_f1"].high) == (None, None)
    assert scores["accuracy"].low is not None


@pytest.mark.parametrize("logit", [9.0, -9.0])
def test_all_right_and_all_wrong_have_intervals(logit: float) -> None:
    """Twenty of twenty right (or wrong) is no certainty: the accuracy's interval has a width."""
    scores = score(Outcomes.of(predictions("a" * 20, [[logit, 0, -99]] * 20)), 3, 100, 0)
    low, high = scores["accuracy"].low, scores["accuracy"].high

    assert scores["accuracy"].value == (logit > 0)
    assert low is not None
    assert high is not None
    assert high - low == pytest.approx(0.161, abs=0.001)


def test_calibration_is_that_of_scikit_learn() -> None:
    """The reliability curve and the calibration error come from scikit-learn's bins."""
    outcomes = Outcomes.of(many(600, "abc"))
    right, mean = calibration_curve(outcomes.is_right, outcomes.confidence, n_bins=15)
    points = curves.reliability(outcomes)
    weights = np.array([point.num_images for point in points]) / 600

    assert [point.accuracy for point in points] == pytest.approx(right.tolist())
    assert [point.confidence for point in points] == pytest.approx(mean.tolist())
    assert calibration_error(outcomes) == pytest.approx(float(weights @ np.abs(right - mean)))


@pytest.mark.parametrize("classes", ["ab", "abcd"])
def test_curves_are_those_of_scikit_learn(classes: str) -> None:
    """ROC and precision-recall, of two classes or pooled one against the rest, and the areas under them."""
    found = many(60, classes)
    truth = np.array(found.labels)[:, None] == np.array(list(classes))
    probabilities = softmax(found.logits, axis=1)
    if len(classes) == 2:
        truth, probabilities = truth[:, 1], probabilities[:, 1]
    roc, precision_recall, areas = curves.roc_and_precision_recall(found)
    false_rate, true_rate, _ = roc_curve(truth.ravel(), probabilities.ravel(), drop_intermediate=False)
    theirs = set(zip(false_rate.round(9), true_rate.round(9), strict=True))
    ours = [(round(point.false_positive_rate, 9), round(point.true_positive_rate, 9)) for point in roc]

    assert set(ours) <= theirs
    assert auc(*zip(*ours, strict=True)) == pytest.approx(areas["roc_auc"])
    assert areas["roc_auc"] == pytest.approx(roc_auc_score(truth.ravel(), probabilities.ravel()))
    assert areas["average_precision"] == pytest.approx(average_precision_score(truth.ravel(), probabilities.ravel()))
    assert precision_recall[-1].recall == 1
    assert precision_recall[-1].precision == pytest.approx(truth.mean())


def test_curves_of_one_kind_of_image_are_empty() -> None:
    """Of two classes of which one does not occur there is nothing to tell apart."""
    assert curves.roc_and_precision_recall(predictions("aaa", [[0, 1]] * 3, "ab")) == ([], [], {})


def test_coverage_grows_to_all_images() -> None:
    """The first part is the most confident one, the last is everything; equal confidences come in together."""
    found = predictions("aab", [[9, 0, 0], [5, 0, 0], [5, 0, 0]])
    points = curves.coverage(Outcomes.of(found))

    assert [(point.coverage, point.accuracy) for point in points] == [
        (pytest.approx(1 / 3), 1),
        (1, pytest.approx(2 / 3)),
    ]
    assert len(curves.coverage(Outcomes.of(many(3000, "abc")))) <= 200


def test_scores_by_class_are_those_of_scikit_learn() -> None:
    """Precision, recall and F1 of every class; none where a class has no images or is never predicted."""
    found = many(80, "abc")
    wider = np.pad(found.logits, ((0, 0), (0, 1)), constant_values=-99)
    found = Predictions(found.digests, found.paths, found.labels, ["a", "b", "c", "none"], wider)
    *ours, empty = class_scores(Outcomes.of(found), found.classes)
    expected = precision_recall_fscore_support(found.labels, found.predicted, labels=list("abc"))

    for number, one in enumerate(ours):
        values = (one.precision, one.recall, one.f1, one.num_images)
        assert values == pytest.approx(tuple(column[number] for column in expected))
    assert empty == ClassScore("none", 0, 0, None, None, None, None, None)


def test_tables_are_written_and_read_back(tmp_path: Path) -> None:
    """Every table says what it was made of, to six digits; metrics are at most a dozen fractions and counts."""
    found = many(180, "abcdefghijkl")
    outcomes = Outcomes.of(found)
    everywhere = score(outcomes, 12, 100, 0)
    distinct = score(outcomes.of_rows(np.arange(180) < 120), 12, 100, 0)
    areas = results.write_tables(tmp_path, found, outcomes)
    results.write_scores(tmp_path / "scores.csv", everywhere, distinct, areas)
    numbers = results.numbers(180, everywhere, distinct, 120)
    scores = {row.score: row for row in read_rows(tmp_path / "scores.csv", ScoreRow)}
    confusion = (tmp_path / "confusion.csv").read_text().splitlines()

    assert confusion[0] == "actual,predicted"
    assert confusion[1:] == [f"{label},{name}" for label, name in zip(found.labels, found.predicted, strict=True)]
    assert scores["brier"].distinct_high == pytest.approx(distinct["brier"].high, rel=1e-5)
    assert scores["roc_auc"].low is None
    assert len(read_rows(tmp_path / "classes.csv", ClassScore)) == 12
    for kind, name in (
        (ReliabilityPoint, "reliability"),
        (CoveragePoint, "coverage"),
        (RocPoint, "roc"),
        (PrecisionRecallPoint, "precision_recall"),
    ):
        assert len(read_rows(tmp_path / f"{name}.csv", kind)) > 2
    assert len(numbers) == 12
    assert numbers["distinct_accuracy"] == distinct["accuracy"].value
    assert all(0 <= value <= 1 for name, value in numbers.items() if not name.startswith(("num_", "log_loss", "brier")))


def test_metrics_without_distinct_images_leave_their_accuracy_out(tmp_path: Path) -> None:
    """Where all test images look like training images there is no number, not a zero."""
    found = many(30, "ab")
    everywhere = score(Outcomes.of(found), 2, 100, 0)
    results.write_scores(tmp_path / "scores.csv", everywhere, {}, {})

    assert "distinct_accuracy" not in results.numbers(30, everywhere, {}, 0)
    assert read_rows(tmp_path / "scores.csv", ScoreRow)[0].distinct_value is None


def test_the_confusion_matrix_is_that_of_scikit_learn() -> None:
    """Rows are actual classes, columns predicted ones."""
    found = many(50, "abc")
    expected = confusion_matrix(found.labels, found.predicted, labels=list("abc"))
    assert our_confusion(Outcomes.of(found), 3).tolist() == expected.tolist()
