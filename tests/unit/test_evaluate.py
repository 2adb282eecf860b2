"""The reported numbers equal their definitions, for any predictions."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from stages.core.tables import Predictions
from stages.evaluate.plots import write_confusion
from stages.evaluate.scores import score


def predictions(labels: str, logits: list[list[float]], classes: str = "abc") -> Predictions:
    """Return predictions of images labelled by letters."""
    names = [f"{position}.png" for position in range(len(labels))]
    return Predictions(names, names, list(labels), list(classes), np.array(logits, dtype=np.float64))


rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(st.floats(-30, 30), min_size=3, max_size=3)), min_size=1, max_size=30
)


def test_numbers_by_hand() -> None:
    """A case small enough to work out: 3 of 4 right, one class of two missed once."""
    numbers = score(predictions("aabb", [[0, -9, -99], [0, -9, -99], [-9, 0, -99], [0, -9, -99]]))

    assert numbers["accuracy"] == 0.75
    assert numbers["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert numbers["macro_f1"] == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)
    assert numbers["log_loss"] == pytest.approx((3 * math.log(1 + math.exp(-9)) + math.log(1 + math.exp(9))) / 4)
    assert numbers["num_images"] == 4


@given(rows)
def test_numbers_are_those_of_their_definitions(data: list[tuple[str, list[float]]]) -> None:
    """For any predictions, absent and never-predicted classes included, the numbers equal an oracle's."""
    found = predictions("".join(label for label, _ in data), [logits for _, logits in data])
    numbers = score(found)
    shifted = found.logits - found.logits.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(data)), ["abc".index(label) for label in found.labels]]
    log_probabilities = chosen - np.log(np.exp(shifted).sum(axis=1))

    assert numbers["accuracy"] == pytest.approx(np.mean(np.array(found.labels) == np.array(found.predicted)))
    assert numbers["log_loss"] == pytest.approx(-log_probabilities.mean(), rel=1e-6, abs=1e-9)
    if set(found.predicted) <= set(found.labels) and len(set(found.labels)) > 1:  # else the oracle warns
        assert numbers["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(found.labels, found.predicted))


@given(rows, st.permutations("abc"), st.floats(-5, 5))
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

    assert score(predictions(labels, permuted, "".join(order))) == pytest.approx(
        score(predictions(labels, logits)), rel=1e-6, abs=1e-9
    )


def test_confusion_has_a_row_per_image(tmp_path: Path) -> None:
    """The plot's table names the actual and the predicted class of every image."""
    write_confusion(tmp_path / "c.csv", predictions("ab", [[1, 0, 0], [1, 0, 0]]))

    assert (tmp_path / "c.csv").read_text() == "actual,predicted\na,a\nb,a\n"
