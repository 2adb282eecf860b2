"""Many revisions are ranked on the images that all have, and tests are corrected for their number."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.revisions.ranking import holm, rank
from headstart.tables.pairs import pair
from tests.support.revisions import predictions


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holms_correction_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    """A corrected p-value is the largest Bonferroni p-value of all sets of hypotheses that hold this one."""
    places = range(len(p_values))
    sets = [one for num in range(1, len(p_values) + 1) for one in combinations(places, num)]
    oracle = [
        max(min(1.0, len(one) * min(p_values[place] for place in one)) for one in sets if wanted in one)
        for wanted in places
    ]

    assert holm(p_values) == pytest.approx(oracle)


def test_rows_are_sorted_and_tested_against_the_baseline() -> None:
    """The most accurate comes first; difference and p-value of each are those of the pair with the baseline."""
    random = np.random.default_rng(0)
    runs = [
        (name, predictions((random.random(200) < share).tolist(), seed=seed))
        for seed, (name, share) in enumerate([("base", 0.7), ("good", 0.9), ("bad", 0.5)])
    ]

    found = rank("head", runs)

    assert [row.name for row in found.rows] == ["good", "base", "bad"]
    assert [row.is_significant for row in found.rows] == [True, False, True]
    rows = {row.name: row for row in found.rows}
    for name, one in runs[1:]:
        pairs, row = pair(runs[0][1], one), rows[name]
        assert row.accuracy == pytest.approx(one.accuracy)
        assert row.difference == pytest.approx(pairs.difference)
        assert (row.difference_low, row.difference_high) == pytest.approx(pairs.interval)
        assert row.p_value == pytest.approx(pairs.p_value)
        assert row.p_value is not None
        assert row.p_holm is not None
        assert row.p_value <= row.p_holm
    assert (rows["base"].difference, rows["base"].p_holm) == (None, None)


def test_only_images_of_all_count() -> None:
    """A revision with other test images shrinks the set for all, so that one order is fair."""
    runs = [("a", predictions([True] * 10)), ("b", predictions([True] * 10, first=4)), ("c", predictions([False] * 20))]

    found = rank("head", runs)

    assert (found.num_images, found.num_tested) == (6, 10)
    assert [row.accuracy for row in found.rows] == [1.0, 1.0, 0.0]
    assert rank("head", [*runs, ("d", predictions([True], first=50))]).rows == []


def test_the_best_of_twenty_equal_ones_is_not_called_better() -> None:
    """Of twenty revisions that differ by chance, some p-value is below 0.05, and no corrected one is (seed 4)."""
    random = np.random.default_rng(4)
    runs = [(str(seed), predictions((random.random(300) < 0.8).tolist(), seed=seed)) for seed in range(21)]

    found = rank("head", runs)

    p_values = [row.p_value for row in found.rows if row.p_value is not None]
    assert min(p_values) < 0.05
    assert not any(row.is_significant for row in found.rows)
