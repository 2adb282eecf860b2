"""Nearest neighbours: against scikit-learn's, and near-duplicates across the split."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from stages.head.neighbours import knn_accuracies, near_duplicates
from tests.support.head_data import FOLDS, DesignsOf, clusters, digests_of, equal_targets


def test_neighbours_are_those_of_scikit_learn(designs_of: DesignsOf) -> None:
    """With one neighbour, a row gets the class of the most similar row of the other folds."""
    x, classes = clusters(90, 12, 3)
    x[:, 1] = 0  # the huge column would make all rows alike
    x += np.random.default_rng(1).normal(size=x.shape).astype(np.float32) * 4  # so that some rows are wrong
    designs = designs_of(x, equal_targets(classes, 3))
    folds, right = designs.rows.folds, 0
    for fold in range(FOLDS):
        search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(x[folds != fold])
        nearest = search.kneighbors(x[folds == fold], return_distance=False)[:, 0]
        right += int((classes[folds != fold][nearest] == classes[folds == fold]).sum())
    accuracies = knn_accuracies(designs, seed=0)

    assert 30 < right < 85
    assert accuracies[1] == pytest.approx(right / 90)
    assert list(accuracies) == [1, 5, 20]


def test_near_duplicates_are_found_across_splits(designs_of: DesignsOf) -> None:
    """A test row that is a training row times 1.001 is listed with that row, and other test rows are not listed."""
    x, classes = clusters(90, 12, 3)
    x[:, 1] = 0  # the huge column would make all of them alike
    designs = designs_of(x, equal_targets(classes, 3))
    random = np.random.default_rng(1)
    other = random.normal(size=(2, 12)).astype(np.float32)
    test = np.concatenate([other, x[17:18] * np.float32(1.001)])
    (pair,) = near_duplicates([(["p", "q", "r"], test)], designs.rows, digests_of(90), 0.9999, num_threads=2)

    assert (pair.test, pair.training) == ("r", digests_of(90)[17])
    assert pair.similarity == pytest.approx(1, abs=1e-5)
