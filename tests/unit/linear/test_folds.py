"""Folds: their balance, their groups, and what is impossible."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.errors import DataError
from headstart.linear.folds import make_folds
from tests.support.head_data import FOLDS


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(2, 5))
def test_folds_share_every_class_evenly(seed: int, num_classes: int, num_folds: int) -> None:
    """Without groups, two folds differ by at most one row of any class, and the names of the classes play no part."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, 80).astype(str).tolist()
    groups = [str(number) for number in range(80)]
    folds = make_folds(labels, groups, num_folds, seed, "head.folds")
    for label in set(labels):
        counts = [sum(1 for one, fold in zip(labels, folds, strict=True) if one == label and fold == number)
                  for number in range(num_folds)]  # fmt: skip
        assert max(counts) - min(counts) <= 1
    renamed = [f"class {9 - int(label)}" for label in labels]
    assert make_folds(renamed, groups, num_folds, seed, "head.folds").tolist() == folds.tolist()


@given(st.integers(0, 1000))
def test_groups_stay_whole(seed: int) -> None:
    """All images of a group are in the same fold, and every fold has rows."""
    random = np.random.default_rng(seed)
    groups = random.integers(0, 25, 90).astype(str).tolist()
    labels = random.integers(0, 3, 90).astype(str).tolist()
    folds = make_folds(labels, groups, FOLDS, seed, "head.folds")

    assert all(len({fold for group, fold in zip(groups, folds, strict=True) if group == one}) == 1 for one in groups)
    assert set(folds) == set(range(FOLDS))


def test_large_groups_are_placed_first() -> None:
    """One group of six rows and four groups of three give three folds of six rows, because large groups go first."""
    groups = ["large"] * 6 + [f"small {number // 3}" for number in range(12)]
    folds = make_folds(["a"] * 18, groups, 3, 0, "head.folds")

    assert np.bincount(folds).tolist() == [6, 6, 6]


def test_too_few_groups_for_the_folds_are_refused() -> None:
    """The error says how many folds the param asks for, and how many groups there are."""
    with pytest.raises(DataError, match=r"head\.folds: found 3, but no class has more than 2 training images"):
        make_folds(["a", "a", "a", "b"], ["1", "1", "2", "3"], 3, 0, "head.folds")
