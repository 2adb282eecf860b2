"""The pool of images without a label: what the head says of them, and which of them to label first.

A label helps most where the head doubts and where other doubtful images lie near. So each image covers the doubt of the
images around it, and the next one is that which is doubtful itself and covers most of what none before it covers. This
is greedy facility location, weighted by doubt (docs/explanation/decisions.md has the measurements).
"""

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from headstart.artifacts.bundle import Bundle
from headstart.artifacts.features import Features, check_finite
from headstart.artifacts.references import unit_length
from headstart.linear.layer_rows import CHUNK_BYTES
from headstart.tables.head import NextToLabel, PoolPrediction
from headstart.tables.split import PoolRow

MOST_ROWS = 1000
# Of a larger pool, so many images are drawn, the doubtful ones more often: their similarities take 64 MB.
_MOST_CANDIDATES = 4000
# The reach of an image, as a fraction of the median distance between two images.
_REACH = 0.3
# An image that one before it covers by more than this is a near-copy of it: exp(-1/2), so less than half a reach away.
_COPY = 0.6065
_LEAST_DOUBT = 1e-6
_SAMPLE = 500  # images whose distances to all others give the median
_ROUNDING = 1e-6  # error of a cosine in float32


def predict_pool(features: Features, bundle: Bundle, pool: Sequence[PoolRow]) -> list[PoolPrediction]:
    """Return the two most probable classes of every image of the pool.

    Args:
        features: Open features file.
        bundle: The head.
        pool: (N,) images without a label, by digest.

    Raises:
        FeatureFileError: An image has no embedding, or its embedding is not finite.
    """
    found = []
    rows = features.rows([row.digest for row in pool])
    for positions, views in features.pieces(bundle.layers, rows, CHUNK_BYTES):
        some = [pool[position] for position in positions]
        check_finite([row.digest for row in some], " + ".join(bundle.layers), views)
        with threadpool_limits(limits=1, user_api="blas"):  # so that the bits do not depend on the number of cores
            probabilities = softmax(bundle.logits(views), axis=1)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
        highest = np.take_along_axis(probabilities, order, axis=1).tolist()
        for row, (first, second), (high, next_high) in zip(some, order.tolist(), highest, strict=True):
            found.append(
                PoolPrediction(row.digest, row.path, bundle.classes[first], high, bundle.classes[second], next_high)
            )
    return found


def rank_pool(
    features: Features, bundle: Bundle, predictions: Sequence[PoolPrediction], seed: int
) -> list[NextToLabel]:
    """Return at most `MOST_ROWS` images in the order in which to label them. Of near-copies only one is among them.

    Memory does not grow with the pool.

    Args:
        features: Open features file.
        bundle: The head, which names the layers whose embeddings are compared.
        predictions: (N,) what the head says of each image of the pool, by digest.
        seed: Seed of the draw from a large pool.

    Raises:
        FeatureFileError: An image has no embedding.
    """
    if not predictions:
        return []
    doubt = np.maximum([one.doubt for one in predictions], _LEAST_DOUBT)
    # The largest values of log(weight) + Gumbel noise are a draw without replacement in proportion to the weights.
    keys = np.log(doubt) + np.random.default_rng(seed).gumbel(size=len(doubt))
    drawn = np.sort(np.argsort(-keys, kind="stable")[:_MOST_CANDIDATES])
    candidates = [predictions[place] for place in drawn]
    rows = features.rows([one.digest for one in candidates])
    pieces = features.pieces(bundle.layers, rows, CHUNK_BYTES)
    embeddings = np.concatenate([views.mean(axis=1, dtype=np.float32) for _, views in pieces])
    places, gains = choose(unit_length(embeddings, bundle.dims), doubt[drawn], MOST_ROWS)
    return [
        NextToLabel(place, one.digest, one.path, one.predicted, one.probability, gain)
        for place, (one, gain) in enumerate(zip((candidates[i] for i in places), gains, strict=True), start=1)
    ]


def choose(x: NDArray[np.float32], doubt: NDArray[np.float64], num: int) -> tuple[list[int], list[float]]:
    """Return positions of at most `num` images, the most helpful first, and their scores, in [0, 1].

    Args:
        x: float32 (M, dim), embeddings of unit length.
        doubt: (M,), positive.
        num: Largest number of images.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        near = _covered(x)
        weights = (doubt / doubt.sum()).astype(np.float32)
        gains = doubt * (near @ weights)
    covered = np.zeros(len(x), dtype=np.float32)
    # What an image adds only falls while others are chosen. So a gain that is still the highest after it was computed
    # anew is the highest of all (Minoux 1978), and few are computed anew.
    heap = [(-float(gain), position, 0) for position, gain in enumerate(gains)]
    heapq.heapify(heap)
    places: list[int] = []
    scores: list[float] = []
    while heap and len(places) < num:
        gain, position, num_before = heapq.heappop(heap)
        if covered[position] > _COPY:
            continue
        if num_before < len(places):
            added = np.maximum(near[position] - covered, 0)
            heapq.heappush(heap, (-float(doubt[position] * np.dot(added, weights)), position, len(places)))
            continue
        places.append(position)
        scores.append(-gain)
        np.maximum(covered, near[position], out=covered)
    return places, scores


def _covered(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much each image covers each other one, float32 (M, M): exp(-distance / reach), 1 for itself."""
    distance = np.maximum(1 - x @ x.T, 0)
    np.fill_diagonal(distance, 0)
    sample = distance[:_SAMPLE]
    apart = sample[sample > _ROUNDING]
    reach = _REACH * np.median(apart) if len(apart) else 1.0
    covered: NDArray[np.float32] = np.exp(distance / np.float32(-reach))
    return covered
