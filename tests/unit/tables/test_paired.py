"""Paired tests equal those of scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from headstart.tables.paired import mcnemar_p, paired_interval


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemars_test_is_that_of_scipy(first: int, second: int) -> None:
    """The p-value equals that of scipy's exact two-sided test, and is 1 if the tracks never differ."""
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0

    assert mcnemar_p(first, second) == pytest.approx(expected)


def test_the_paired_interval_is_near_the_bootstraps() -> None:
    """The interval is close to the bootstrap interval, and still has a width if the tracks never differ."""
    differences = np.array([1] * 60 + [-1] * 30 + [0] * 410)
    oracle = bootstrap((differences,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0))
    low, high = paired_interval(500, 30, 60)

    assert (low, high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.004)
    low, high = paired_interval(153, 0, 0)
    assert low == pytest.approx(-high)
    assert 0.01 < high < 0.02


@given(st.integers(1, 40), st.data())
def test_the_interval_holds_the_difference_and_turns_with_it(num: int, data: st.DataObject) -> None:
    """The interval lies in [-1, 1], and swapping the tracks changes only its sign."""
    first = data.draw(st.integers(0, num))
    second = data.draw(st.integers(0, num - first))
    low, high = paired_interval(num, first, second)

    assert -1 <= low <= high <= 1
    assert np.allclose(paired_interval(num, second, first), (-high, -low))
