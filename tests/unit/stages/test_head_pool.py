"""The pool: what the head says of images without a label, and which of them it wants labelled first."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from headstart.artifacts.features import open_features
from headstart.artifacts.references import unit_length
from headstart.tables.head import NextToLabel, PoolPrediction
from headstart.tables.split import PoolRow, SplitRow
from stages.head import pool as pool_module
from stages.head.pool import choose, predict_pool, rank_pool
from stages.head.train import train_head
from tests.support.head_data import digests_of, write_features
from tests.unit.stages.test_head import NUM, NUM_TRAINING, blobs, head_params

NUM_POOL = 60


def unit(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return rows of unit length."""
    return unit_length(x, [x.shape[1]])


def predict_and_rank(
    folder: Path, seed: int = 0
) -> tuple[list[PoolPrediction], list[NextToLabel], NDArray[np.float64]]:
    """Train a head, and return what it says of a pool, the ranking, and its probabilities (NUM_POOL, C)."""
    layers, labels = blobs()
    random = np.random.default_rng(1)
    more = {
        name: np.concatenate([x, x[:NUM_POOL] + random.normal(size=x[:NUM_POOL].shape)]) for name, x in layers.items()
    }
    digests = digests_of(NUM + NUM_POOL)
    write_features(folder / "f.h5", digests, {name: x.astype(np.float32) for name, x in more.items()})
    split = [
        SplitRow(digest, f"{place}.png", label, "train" if place < NUM_TRAINING else "test", digest)
        for place, (digest, label) in enumerate(zip(digests[:NUM], labels, strict=True))
    ]
    pool = [PoolRow(digest, f"_unlabelled/{digest[:8]}.png") for digest in digests[NUM:]]
    with open_features(folder / "f.h5") as features:
        bundle = train_head(features, split, sorted(set(labels)), "0" * 64, head_params()).bundle
        predictions = predict_pool(features, bundle, pool)
        views = np.concatenate([features.read(layer, digests[NUM:]) for layer in bundle.layers], axis=2)
        assert predict_pool(features, bundle, []) == []
        assert rank_pool(features, bundle, [], seed) == []
        return predictions, rank_pool(features, bundle, predictions, seed), softmax(bundle.logits(views), axis=1)


def test_every_image_of_the_pool_is_predicted(tmp_path: Path) -> None:
    """The two most probable classes and their probabilities are those of the bundle; the doubt follows."""
    predictions, _, probabilities = predict_and_rank(tmp_path)

    assert [one.path[:12] for one in predictions] == ["_unlabelled/"] * NUM_POOL
    for one, row in zip(predictions, probabilities, strict=True):
        second, first = np.argsort(row)[-2:]
        assert (one.predicted, one.second) == (f"class {first}", f"class {second}")
        assert one.probability == pytest.approx(row[first])
        assert one.second_probability == pytest.approx(row[second])
        assert one.doubt == pytest.approx(1 - row[first] + row[second])


def test_the_list_has_places_and_falling_scores(tmp_path: Path) -> None:
    """Each image is listed once with its prediction, the most helpful first; what it says is repeatable."""
    predictions, ranked, _ = predict_and_rank(tmp_path)
    known = {one.digest: one for one in predictions}

    assert [row.place for row in ranked] == list(range(1, len(ranked) + 1))
    assert len({row.digest for row in ranked}) == len(ranked) <= NUM_POOL
    assert [row.score for row in ranked] == sorted((row.score for row in ranked), reverse=True)
    assert all(0 <= row.score <= 1 for row in ranked)
    assert all((row.path, row.predicted, row.probability) == (one.path, one.predicted, one.probability)
               for row in ranked for one in [known[row.digest]])  # fmt: skip
    assert predict_and_rank(tmp_path)[1] == ranked


def test_of_a_large_pool_candidates_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the largest number of candidates the seed draws them, the doubtful ones more often."""
    monkeypatch.setattr(pool_module, "_MOST_CANDIDATES", 15)
    predictions, first, _ = predict_and_rank(tmp_path)
    drawn = {row.digest for seed in range(6) for row in predict_and_rank(tmp_path, seed)[1]}
    doubts = sorted(predictions, key=lambda one: one.doubt)

    assert len(first) <= 15
    assert first != predict_and_rank(tmp_path, 1)[1]
    assert {one.digest for one in doubts[-3:]} <= drawn
    assert sum(one.digest in drawn for one in doubts[:30]) < sum(one.digest in drawn for one in doubts[30:])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999))
def test_the_choice_is_that_of_a_plain_greedy_search(num_images: int, num: int, seed: int) -> None:
    """Each image chosen is the one that is no near-copy and adds most, as if all gains were computed anew each time."""
    random = np.random.default_rng(seed)
    x, doubt = unit(random.normal(size=(num_images, 5))), random.uniform(0.01, 1, num_images)
    places, scores = choose(x, doubt, num)
    near = pool_module._covered(x).astype(np.float64)
    covered = np.zeros(num_images)
    for place, score in zip(places, scores, strict=True):
        gains = doubt * (np.maximum(near - covered, 0) @ (doubt / doubt.sum()))
        gains[covered > pool_module._COPY] = -1
        assert score == pytest.approx(gains[place], abs=1e-6)
        assert gains[place] == pytest.approx(gains.max(), abs=1e-6)
        covered = np.maximum(covered, near[place])
    assert len(places) == num or (covered > pool_module._COPY - 1e-6).all()


def test_near_copies_are_proposed_once() -> None:
    """Of ten images with three near-copies each, ten are listed, however doubtful the copies are."""
    random = np.random.default_rng(0)
    seen = np.repeat(random.normal(size=(10, 30)), 4, axis=0)
    places, _ = choose(unit(seen + 0.01 * random.normal(size=seen.shape)), np.ones(40), 40)

    assert sorted(place // 4 for place in places) == list(range(10))
    assert choose(unit(np.ones((5, 3))), np.full(5, 0.5), 5)[0] == [0]  # all alike: one of them


def test_doubt_and_neighbours_decide() -> None:
    """The first image is one in a crowd of doubtful ones: not the sure crowd, and not the doubtful image far away."""
    random = np.random.default_rng(0)
    centres = np.eye(3)[[0] * 20 + [1] * 20 + [2]]
    doubt = np.array([0.05] * 20 + [0.8] * 20 + [0.9])
    places, _ = choose(unit(centres + 0.05 * random.normal(size=centres.shape)), doubt, 3)

    assert places[0] in range(20, 40)
    assert 40 in places[1:]
