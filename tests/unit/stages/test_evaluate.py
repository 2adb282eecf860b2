"""The scores, intervals and curves of a track equal their definitions, for any predictions."""

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
from headstart.tables.outcomes import Outcomes
from headstart.tables.predictions import Predictions
from headstart.tables.rows import read_rows
from stages.evaluate import curves, metrics, results, scores
from stages.evaluate.class_scores import class_scores
from stages.evaluate.class_scores import confusion_matrix as our_confusion
from stages.evaluate.metrics import METRICS, Metric
from stages.evaluate.scores import score


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
    return {name: one.value for name, one in score(Outcomes.of(found), 100, 0).items()}


rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(st.floats(-30, 30), min_size=3, max_size=3)), min_size=1, max_size=30
)


def test_scores_by_hand() -> None:
    """Four images, of which one is wrong, have the scores that a calculation by hand gives."""
    numbers = values(predictions("aabb", [[0, -9, -99], [0, -9, -99], [-9, 0, -99], [0, -9, -99]]))
    p = 1 / (1 + math.exp(-9))

    assert numbers["accuracy"] == 0.75
    assert numbers["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert numbers["macro_f1"] == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)
    assert numbers["log_loss"] == pytest.approx((3 * math.log(1 + math.exp(-9)) + math.log(1 + math.exp(9))) / 4)
    assert numbers["brier"] == pytest.approx((3 * 2 * (1 - p) ** 2 + 2 * p**2) / 4)
    assert numbers["calibration_error"] == pytest.approx(p - 0.75)
    assert numbers["roc_auc"] == pytest.approx(7 / 8)  # three of four images of each class are ahead, one is tied
    assert list(numbers) == [metric.name for metric in METRICS if metric.name != "top5_accuracy"]


@given(rows)
@settings(deadline=None)
def test_scores_are_those_of_scikit_learn(data: list[tuple[str, list[float]]]) -> None:
    """The scores equal those of scikit-learn also if classes are absent or never predicted, or logits are tied."""
    found = predictions("".join(label for label, _ in data), [logits for _, logits in data])
    numbers = values(found)
    probabilities = softmax(found.logits, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predicted classes that do not occur
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
    # scikit-learn clips probabilities near 0.
    if own.min() > 1e-9:
        assert numbers["log_loss"] == pytest.approx(
            log_loss(found.labels, probabilities, labels=found.classes), abs=1e-6
        )


@given(rows, st.permutations("abc"), st.floats(-5, 5))
@settings(deadline=None)
def test_order_of_classes_and_a_common_shift_change_nothing(
    data: list[tuple[str, list[float]]], order: list[str], shift: float
) -> None:
    """The scores stay if the classes are reordered, or if a constant is added to all logits."""
    labels = "".join(label for label, _ in data)
    logits = [values for _, values in data]
    if any(len(set(values)) < 3 for values in logits):
        return  # the first of tied classes is predicted, and another order has another first class
    permuted = [[values["abc".index(name)] + shift for name in order] for values in logits]
    if any(len(set(values)) < 3 for values in permuted):
        return

    ours, theirs = values(predictions(labels, permuted, "".join(order))), values(predictions(labels, logits))
    del ours["calibration_error"], theirs["calibration_error"]  # a last bit may move a confidence to the next bin
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_top_five_of_many_classes() -> None:
    """With more than ten classes there is a top-5 accuracy, and it equals that of scikit-learn."""
    found = many(200, "abcdefghijkl")
    numbers = values(found)
    expected = top_k_accuracy_score(found.labels, found.logits, k=5, labels=list(found.classes))

    assert numbers["top5_accuracy"] == pytest.approx(expected)
    assert numbers["accuracy"] < numbers["top5_accuracy"] < 1


def test_intervals_are_those_of_the_bootstrap() -> None:
    """For images of one class, which are one stratum, the intervals are close to scipy's percentile intervals."""
    found = predictions("a" * 120, many(120, "abc").logits.tolist())
    outcomes = Outcomes.of(found)
    scores = score(outcomes, 4000, 0)
    for name, each in (("log_loss", outcomes.log_loss), ("brier", outcomes.brier)):
        oracle = bootstrap((each,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(1))
        low, high = oracle.confidence_interval
        assert (scores[name].low, scores[name].high) == pytest.approx((low, high), abs=0.1 * (high - low))
    assert (scores["accuracy"].low, scores["accuracy"].high) == wilson_interval(float(outcomes.is_right.mean()), 120)


def test_intervals_hold_the_value_and_shrink_with_more_images() -> None:
    """Every interval contains its value, and sixteen times as many images make it about a quarter as wide."""
    few, lots = (score(Outcomes.of(many(num, "abcdefghijkl")), 400, 0) for num in (150, 2400))
    for metric in METRICS:
        one, other = few[metric.name], lots[metric.name]
        if metric.interval == "none":
            assert (one.low, one.high) == (None, None)
            continue
        assert one.low is not None
        assert one.high is not None
        assert other.low is not None
        assert other.high is not None
        assert one.low < one.value < one.high
        assert 0.15 < (other.high - other.low) / (one.high - one.low) < 0.4


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 100))
def test_resamples_keep_every_stratum(strata: list[int], seed: int) -> None:
    """Each resample has as many rows of each stratum as the data, and the same seed gives the same resamples."""
    numbers = np.array(strata)
    for counts in resamples(numbers, 5, seed):
        assert np.bincount(numbers, counts, minlength=5).tolist() == np.bincount(numbers, minlength=5).tolist()
    assert [one.tolist() for one in resamples(numbers, 3, seed)] == [
        one.tolist() for one in resamples(numbers, 3, seed)
    ]


def test_no_interval_from_a_handful_of_images() -> None:
    """With four images of a class there is no bootstrap interval, because it would be too narrow."""
    found = many(60, "abc")
    few = predictions("aaaa" + "b" * 30, found.logits[:34].tolist())
    scores = score(Outcomes.of(few), 100, 0)

    assert (scores["log_loss"].low, scores["macro_f1"].high) == (None, None)
    assert scores["accuracy"].low is not None


@pytest.mark.parametrize("logit", [9.0, -9.0])
def test_all_right_and_all_wrong_have_intervals(logit: float) -> None:
    """If all of twenty images are right, or all are wrong, the interval of the accuracy still has a width."""
    scores = score(Outcomes.of(predictions("a" * 20, [[logit, 0, -99]] * 20)), 100, 0)
    low, high = scores["accuracy"].low, scores["accuracy"].high

    assert scores["accuracy"].value == (logit > 0)
    assert low is not None
    assert high is not None
    assert high - low == pytest.approx(0.161, abs=0.001)


def test_calibration_is_that_of_scikit_learn() -> None:
    """The reliability curve equals that of scikit-learn, and the calibration error follows from it."""
    found = many(600, "abc")
    outcomes = Outcomes.of(found)
    right, mean = calibration_curve(outcomes.is_right, outcomes.confidence, n_bins=15)
    points = curves.reliability(outcomes)
    weights = np.array([point.num_images for point in points]) / 600

    assert [point.accuracy for point in points] == pytest.approx(right.tolist())
    assert [point.confidence for point in points] == pytest.approx(mean.tolist())
    assert values(found)["calibration_error"] == pytest.approx(float(weights @ np.abs(right - mean)))


@pytest.mark.parametrize("classes", ["ab", "abcd"])
def test_curves_are_those_of_scikit_learn(classes: str) -> None:
    """The ROC and precision-recall curves and their areas equal those of scikit-learn, for two and for four classes."""
    found = many(60, classes)
    truth = np.array(found.labels)[:, None] == np.array(list(classes))
    probabilities = softmax(found.logits, axis=1)
    if len(classes) == 2:
        truth, probabilities = truth[:, 1], probabilities[:, 1]
    outcomes, areas = Outcomes.of(found), values(found)
    roc, precision_recall = curves.roc(outcomes), curves.precision_recall(outcomes)
    false_rate, true_rate, _ = roc_curve(truth.ravel(), probabilities.ravel(), drop_intermediate=False)
    theirs = set(zip(false_rate.round(9), true_rate.round(9), strict=True))
    ours = [(round(point.false_positive_rate, 9), round(point.true_positive_rate, 9)) for point in roc]

    assert set(ours) <= theirs
    assert auc(*zip(*ours, strict=True)) == pytest.approx(areas["roc_auc"])
    assert areas["roc_auc"] == pytest.approx(roc_auc_score(truth.ravel(), probabilities.ravel()))
    assert areas["average_precision"] == pytest.approx(average_precision_score(truth.ravel(), probabilities.ravel()))
    assert precision_recall[-1].recall == 1
    assert precision_recall[-1].precision == pytest.approx(truth.mean())


@pytest.mark.parametrize("labels", ["aaa", "bbb"])
def test_curves_of_one_kind_of_image_are_empty(labels: str) -> None:
    """If one of two classes has no images, both curves are empty and their areas are left out."""
    found = predictions(labels, [[0, 1]] * 3, "ab")

    assert curves.roc(Outcomes.of(found)) == []
    assert curves.precision_recall(Outcomes.of(found)) == []
    assert not {"roc_auc", "average_precision"} & set(values(found))


def test_coverage_grows_to_all_images() -> None:
    """The first point has the most confident image, the last has all; images of equal confidence come together."""
    found = predictions("aab", [[9, 0, 0], [5, 0, 0], [5, 0, 0]])
    points = curves.coverage(Outcomes.of(found))

    assert [(point.coverage, point.accuracy) for point in points] == [
        (pytest.approx(1 / 3), 1),
        (1, pytest.approx(2 / 3)),
    ]
    assert len(curves.coverage(Outcomes.of(many(3000, "abc")))) <= 200


def test_scores_by_class_are_those_of_scikit_learn() -> None:
    """Precision, recall and F1 equal those of scikit-learn, and are None for a class that has no images."""
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
    """Every table can be read back, with the scores of all images and of the distinct ones."""
    found = many(180, "abcdefghijkl")
    outcomes = Outcomes.of(found)
    everywhere = score(outcomes, 100, 0)
    distinct = score(outcomes.of_rows(np.arange(180) < 120), 100, 0)
    results.write_tables(tmp_path, found, outcomes)
    results.write_scores(tmp_path / "scores.csv", everywhere, distinct)
    numbers = results.numbers(180, everywhere, distinct, 120)
    scores = {row.score: row for row in read_rows(tmp_path / "scores.csv", ScoreRow)}
    confusion = (tmp_path / "confusion.csv").read_text().splitlines()

    assert confusion[0] == "actual,predicted"
    assert confusion[1:] == [f"{label},{name}" for label, name in zip(found.labels, found.predicted, strict=True)]
    assert scores["brier"].distinct_high == pytest.approx(distinct["brier"].high, rel=1e-5)
    assert scores["roc_auc"].distinct_value == pytest.approx(distinct["roc_auc"].value, rel=1e-5)
    assert scores["roc_auc"].low is None
    assert [(row.score, row.title, row.better) for row in scores.values()] == [
        (metric.name, metric.title, metric.better) for metric in METRICS
    ]
    assert len(read_rows(tmp_path / "classes.csv", ClassScore)) == 12
    for kind, name in (
        (ReliabilityPoint, "reliability"),
        (CoveragePoint, "coverage"),
        (RocPoint, "roc"),
        (PrecisionRecallPoint, "precision_recall"),
    ):
        assert len(read_rows(tmp_path / f"{name}.csv", kind)) > 2
    assert set(numbers) - {metric.name for metric in METRICS} == {
        *("accuracy_low", "accuracy_high", "distinct_accuracy", "num_images", "num_distinct")
    }
    assert numbers["distinct_accuracy"] == distinct["accuracy"].value
    assert all(0 <= value <= 1 for name, value in numbers.items() if not name.startswith(("num_", "log_loss", "brier")))


def test_metrics_without_distinct_images_leave_their_accuracy_out(tmp_path: Path) -> None:
    """If all test images look like training images, the accuracy on distinct images is missing, not 0."""
    found = many(30, "ab")
    everywhere = score(Outcomes.of(found), 100, 0)
    results.write_scores(tmp_path / "scores.csv", everywhere, {})

    assert "distinct_accuracy" not in results.numbers(30, everywhere, {}, 0)
    assert read_rows(tmp_path / "scores.csv", ScoreRow)[0].distinct_value is None


def test_the_confusion_matrix_is_that_of_scikit_learn() -> None:
    """Rows are actual classes, columns are predicted classes."""
    found = many(50, "abc")
    expected = confusion_matrix(found.labels, found.predicted, labels=list("abc"))
    assert our_confusion(Outcomes.of(found)).tolist() == expected.tolist()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("classes", ["ab", "abcdefghijkl"])
def test_an_image_that_counts_twice_is_like_two_images(metric: Metric, classes: str) -> None:
    """Every metric uses the counts: its score equals that of a data set in which the images are repeated."""
    found = many(60, classes)
    counts = np.random.default_rng(1).integers(0, 4, 60)
    outcomes = Outcomes.of(found)
    counts[outcomes.cases.image[0]] = 0  # nothing counts above the highest threshold
    copies = np.repeat(np.arange(60), counts)
    labels = "".join(found.labels[row] for row in copies.tolist())
    repeated = Outcomes.of(predictions(labels, found.logits[copies].tolist(), classes))

    once = metric.function(repeated, np.ones(len(copies), dtype=np.int64))
    assert metric.function(outcomes, counts) == pytest.approx(once)
    if len(classes) >= metric.fewest_classes:
        assert once != pytest.approx(metric.function(outcomes, np.ones(60, dtype=np.int64)))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_better_direction_of_a_metric_is_that_of_better_predictions(metric: Metric) -> None:
    """Predictions that are right and sure of it score better than vague ones, in the direction that the entry names."""
    vague = many(60, "abcdefghijkl")
    right = np.array([vague.classes.index(label) for label in vague.labels])
    sure = predictions("".join(vague.labels), (20 * np.eye(12)[right]).tolist(), "abcdefghijkl")
    counts = np.ones(60, dtype=np.int64)
    low, high = (metric.function(Outcomes.of(found), counts) for found in (vague, sure))

    assert (high > low) == (metric.better == "higher")


def test_a_new_metric_is_one_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A metric that has an entry in the registry is in the tables and, if it is shown, in `dvc metrics show`."""

    def error_rate(outcomes: Outcomes, counts: metrics.Counts) -> float:
        return float(1 - counts @ outcomes.is_right / counts.sum())

    entry = Metric("error_rate", "error rate", "lower", "bootstrap", error_rate, is_shown=True)
    undefined = Metric("undefined", "undefined", "lower", "wilson", lambda *_: math.nan)
    many_classes = Metric("of_four", "of four classes", "lower", "none", error_rate, fewest_classes=4)
    for module in (scores, results):
        monkeypatch.setattr(module, "METRICS", (*METRICS, entry, undefined, many_classes))
    found = score(Outcomes.of(many(60, "abc")), 100, 0)
    results.write_scores(tmp_path / "scores.csv", found, {})
    shown = results.shown(results.numbers(60, found, {}, 0))

    assert read_rows(tmp_path / "scores.csv", ScoreRow)[-1].title == "error rate"
    assert found["error_rate"].low is not None
    assert shown["error_rate"] == pytest.approx(1 - shown["accuracy"])
    assert set(shown) - {metric.name for metric in METRICS if metric.is_shown} == {
        *("accuracy_low", "accuracy_high", "error_rate", "num_images")
    }


def test_a_metric_that_some_resample_leaves_undefined_has_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a score is undefined for one resample, it has a value but no interval."""

    def of_the_first_image(outcomes: Outcomes, counts: metrics.Counts) -> float:
        return float(outcomes.confidence[0]) if counts[0] else math.nan

    entry = Metric("first", "first", "higher", "bootstrap", of_the_first_image)
    monkeypatch.setattr(scores, "METRICS", (entry,))
    found = score(Outcomes.of(many(60, "abc")), 100, 0)["first"]

    assert found.value > 0
    assert (found.low, found.high) == (None, None)
