"""Intervals of accuracies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from headstart.tables.intervals import wilson_interval


@given(st.integers(0, 50), st.integers(50, 90))
def test_intervals_are_wilsons(hits: int, num: int) -> None:
    """The interval of an accuracy equals SciPy's Wilson interval."""
    expected = binomtest(hits, num).proportion_ci(0.95, method="wilson")

    assert wilson_interval(hits / num, num) == pytest.approx((expected.low, expected.high), abs=1e-9)
