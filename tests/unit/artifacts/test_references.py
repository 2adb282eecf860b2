"""References give the nearest training images, and thresholds for a requested coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics.pairwise import cosine_similarity

from headstart.artifacts.references import References, make_references, nearest_similarity

RANDOM = np.random.default_rng(0)


def references(held_out: NDArray[np.float32], embeddings: NDArray[np.float32] | None = None) -> References:
    """Return references that have only these held-out rows."""
    rows = RANDOM.normal(size=(7, 3)).astype(np.float32) if embeddings is None else embeddings
    names = [str(number) for number in range(len(rows))]
    return make_references(names, names, names, rows, held_out, dims=[rows.shape[1]])


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_the_stated_coverage_is_kept_on_held_out_images(pairs: list[tuple[int, int]], coverage: float) -> None:
    """Enough held-out images reach both thresholds for the coverage; at the next higher quantiles there are too few."""
    held_out = (np.array(pairs) / 20).astype(np.float32)
    confidence, similarity = references(held_out).thresholds(coverage)
    answered = (held_out >= (confidence, similarity)).all(axis=1).mean()
    higher = [
        rank
        for rank in range(len(pairs))
        if (np.sort(held_out, axis=0)[rank] >= (confidence, similarity)).all()
        and (np.sort(held_out, axis=0)[rank] > (confidence, similarity)).any()
    ]

    lowest = (confidence, similarity) == tuple(held_out.min(axis=0).tolist())
    assert answered >= coverage or lowest
    if higher:
        assert (held_out >= np.sort(held_out, axis=0)[higher[0]]).all(axis=1).mean() < coverage


def test_all_are_answered_at_full_coverage() -> None:
    """With a coverage of 1, both thresholds are the smallest values of the held-out images."""
    held_out = RANDOM.uniform(size=(40, 2)).astype(np.float32)

    assert references(held_out).thresholds(1.0) == tuple(held_out.min(axis=0).tolist())


def test_the_nearest_are_those_of_the_largest_cosine() -> None:
    """The nearest references come first, with scikit-learn's cosine similarities to the mean over the views."""
    rows = RANDOM.normal(size=(30, 5)).astype(np.float32) * RANDOM.uniform(1, 1e6, size=(30, 1)).astype(np.float32)
    queries = RANDOM.normal(size=(4, 2, 5)).astype(np.float32)
    found, similarity = references(np.zeros((1, 2), np.float32), rows).nearest(queries, 3)
    expected = cosine_similarity(queries.mean(axis=1), rows)

    assert found.tolist() == np.argsort(-expected, axis=1)[:, :3].tolist()
    assert np.allclose(similarity, -np.sort(-expected, axis=1)[:, :3], atol=1e-3)


@pytest.mark.parametrize("num", [3, 700])
def test_a_held_out_image_is_compared_with_other_folds_only(num: int) -> None:
    """A held-out image is compared with the other folds only; without another fold its similarity is -1."""
    rows, folds = RANDOM.normal(size=(num, 4)).astype(np.float32), np.arange(num) % 3
    found = nearest_similarity(rows, rows, [4], (folds, folds))
    expected = cosine_similarity(rows)
    expected[folds[:, None] == folds] = -1

    assert np.allclose(found, expected.max(axis=1), atol=1e-5)
    assert np.allclose(nearest_similarity(rows, rows, [4]), 1, atol=1e-5)
    assert (nearest_similarity(rows, rows, [4], (folds * 0, folds * 0)) == -1).all()


def test_the_similarity_of_several_layers_is_the_mean_of_their_cosines() -> None:
    """A layer with large values does not drown another one: each layer's cosine similarity counts the same."""
    rows = RANDOM.normal(size=(20, 7)).astype(np.float32)
    rows[:, :3] *= 1000
    names = [str(number) for number in range(20)]
    made = make_references(names, names, names, rows, np.zeros((1, 2), np.float32), dims=[3, 4])
    expected = (cosine_similarity(rows[:, :3]) + cosine_similarity(rows[:, 3:])) / 2
    np.fill_diagonal(expected, -1)
    _, similarity = made.nearest(rows[:, None], 2)

    assert np.allclose(similarity[:, 1], expected.max(axis=1), atol=1e-3)
    assert np.allclose(nearest_similarity(rows[:1], rows[1:], [3, 4]), expected[0, 1:].max(), atol=1e-5)
