"""Targets: sample weights by class, and names that do not exist."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from headstart.base.errors import DataError, ParamsError
from headstart.linear.targets import make_targets

LABELS = ["ant", "ant", "bee", "ant", "wasp"]
CLASSES = ["ant", "bee", "cow", "wasp"]  # no row is a cow


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    """With `balanced`, the sample weights equal scikit-learn's; a class without rows plays no part."""
    targets = make_targets(LABELS, CLASSES, "balanced", "head.class_weights")

    assert targets.sample_weights == pytest.approx(compute_sample_weight("balanced", LABELS))
    assert targets.classes.tolist() == [0, 0, 1, 0, 3]
    assert targets.num_classes == 4


def test_a_table_of_weights_leaves_other_classes_at_one() -> None:
    """A row's sample weight is the weight of its class in the table, or 1 if the table does not name the class."""
    assert make_targets(LABELS, CLASSES, {"bee": 3.0}, "key").sample_weights.tolist() == [1, 1, 3, 1, 1]
    assert make_targets(LABELS, CLASSES, "none", "key").sample_weights.tolist() == [1, 1, 1, 1, 1]


def test_one_hot_rows_have_a_one_at_their_class() -> None:
    """The one-hot targets of some rows have a column for every class, also for a class without rows."""
    targets = make_targets(LABELS, CLASSES, "none", "key")

    assert targets.one_hot(np.array([0, 4])).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


def test_unknown_labels_and_classes_are_refused() -> None:
    """A label that is no class, or a weight for a class that does not exist, is named in the error."""
    with pytest.raises(DataError, match=r"labels \['wasp'\] are not in data/classes\.json"):
        make_targets(LABELS, CLASSES[:3], "none", "key")
    with pytest.raises(ParamsError, match=r"head\.class_weights: found \['dog'\]; expected some of the classes"):
        make_targets(LABELS, CLASSES, {"dog": 2.0}, "head.class_weights")
