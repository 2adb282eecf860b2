"""Two models are paired on the images that both tested."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from headstart.tables.pairs import pair
from tests.support.revisions import digest, predictions

RIGHT = st.lists(st.booleans(), min_size=1, max_size=30)


@given(RIGHT, RIGHT, st.integers(0, 30))
def test_only_common_images_are_compared(before: list[bool], after: list[bool], shift: int) -> None:
    """Counts, difference and p-value are those of the images that both tested, which a plain loop finds as well."""
    pairs = pair(predictions(before), predictions(after, first=shift, seed=1))
    was = {digest(number): right for number, right in enumerate(before)}
    now = {digest(number + shift): right for number, right in enumerate(after)}
    common = [one for one in now if one in was]

    assert pairs.after.digests == pairs.before.digests == common
    assert pairs.num_only_before == len(was) - len(common)
    assert pairs.num_only_after == len(now) - len(common)
    assert pairs.newly_right.tolist() == [now[one] and not was[one] for one in common]
    assert pairs.newly_wrong.tolist() == [was[one] and not now[one] for one in common]
    if common:
        won, lost = int(pairs.newly_right.sum()), int(pairs.newly_wrong.sum())
        assert pairs.difference == pytest.approx((won - lost) / len(common))
        assert pairs.p_value == pytest.approx(binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0)


def test_right_is_what_the_label_of_the_second_says() -> None:
    """An image whose label was corrected is judged by the corrected label at both revisions, and is counted."""
    before, after = predictions([False, True, True]), predictions([True, True, True])
    # The wrong label, about which the first was right.
    before = dataclasses.replace(before, labels=[before.predicted[0], *before.labels[1:]])

    pairs = pair(before, after)

    assert pairs.num_relabelled == 1
    assert pairs.was_right.tolist() == [False, True, True]
