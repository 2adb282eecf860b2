"""Nearest neighbours by cosine similarity of embeddings: accuracy of k-NN to check the head, and near-duplicates."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.references import unit_length
from headstart.base.threads import in_order
from headstart.linear.design import DesignMatrices
from headstart.linear.layer_rows import LayerRows, RowBlock, concatenate

NUM_NEIGHBOURS = (1, 5, 20)
_BLOCK_ROWS = 512
_MAX_PAIRS = 10  # of each test image
_ROUNDING = 1e-6  # error of a cosine in float32: copies may have a similarity this far below 1
_MAX_QUERIES = 4000  # the standard error of an accuracy of 0.9 is then 0.005


@dataclass(frozen=True)
class SimilarPair:
    """A test image and a training image that look alike.

    Attributes:
        test: Digest of the test image.
        training: Digest of the training image.
        similarity: Cosine similarity of their embeddings.
    """

    test: str
    training: str
    similarity: float


def knn_accuracies(designs: DesignMatrices, seed: int) -> dict[int, float]:
    """Return the accuracy of k nearest neighbours on the training rows, for each k in `NUM_NEIGHBOURS`.

    Each row is classified by its nearest rows in all other folds. The similarity of two rows is the cosine similarity
    of their embeddings, averaged over the layers. A neighbour votes for its class with the weight 1 + similarity. If
    there are more than 4,000 rows, 4,000 rows drawn at random are classified.

    Args:
        designs: Design matrices of the layers, for their rows, targets and folds.
        seed: Seed of the draw.

    Returns:
        The fraction of the classified rows that are right, by k.
    """
    rows, targets = designs.rows, designs.targets
    max_k = max(NUM_NEIGHBOURS)
    queries = np.sort(np.random.default_rng(seed).permutation(rows.num_rows)[:_MAX_QUERIES])
    drawn = concatenate(rows.blocks(np.isin(np.arange(rows.num_rows), queries)))
    dims = [part.stop - part.start for part in rows.columns.values()]
    x, positions, folds = unit_length(drawn.x, dims), drawn.positions, rows.folds[drawn.positions]
    best = np.full((len(x), max_k), -np.inf, dtype=np.float32)
    classes = np.zeros((len(x), max_k), dtype=np.int64)

    def nearest_in(block: RowBlock) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        found = x @ unit_length(block.x, dims).T
        found[folds[:, None] == rows.folds[block.positions]] = -np.inf
        return _largest(found, np.broadcast_to(targets.classes[block.positions], found.shape), max_k)

    for found, labels in in_order(nearest_in, _split(rows.blocks()), designs.resources.num_threads):
        together, all_labels = np.concatenate([best, found], axis=1), np.concatenate([classes, labels], axis=1)
        best, classes = _largest(together, all_labels, max_k)
    accuracies = {}
    for k in NUM_NEIGHBOURS:
        votes = np.zeros((len(x), targets.num_classes))
        # The weight is between 0 and 2, so a neighbour at more than a right angle still counts. A missing neighbour has
        # a similarity of -inf and does not count.
        vote = np.where(np.isfinite(best[:, :k]), 1 + best[:, :k], 0.0)
        np.add.at(votes, (np.arange(len(x))[:, None], classes[:, :k]), vote)
        accuracies[k] = float((votes.argmax(axis=1) == targets.classes[positions]).mean())
    return accuracies


def _split(blocks: Iterable[RowBlock]) -> Iterator[RowBlock]:
    """Split blocks, because the similarities of a large block to many rows take more memory than the block itself."""
    for block in blocks:
        for start in range(0, len(block.x), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            yield RowBlock(block.positions[part], block.x[part])


def _largest(
    values: NDArray[np.float32], labels: NDArray[np.int64], num: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the largest values of every row, descending, and their labels."""
    chosen = np.argpartition(-values, num - 1, axis=1)[:, :num] if values.shape[1] > num else None
    if chosen is not None:
        values, labels = np.take_along_axis(values, chosen, 1), np.take_along_axis(labels, chosen, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, 1), np.take_along_axis(labels, order, 1)


def near_duplicates(
    test: Iterable[tuple[Sequence[str], NDArray[np.float32]]],
    rows: LayerRows,
    training: Sequence[str],
    similarity: float,
    num_threads: int,
) -> list[SimilarPair]:
    """Return the pairs of a test image and a training image that look alike, the most similar first.

    Each test image is paired with at most its ten most similar training images: if all pictures look alike, all pairs
    would not fit into memory.

    Args:
        test: Digests and embeddings, float32 (B, dim), of the test images, a batch at a time.
        rows: Training rows of the same layer, one layer only.
        training: (N,) digests of the training rows.
        similarity: Smallest cosine similarity of a pair that is returned.
        num_threads: Number of threads.
    """
    pairs: list[SimilarPair] = []
    for digests, embeddings in test:
        x = unit_length(embeddings, [rows.dim])
        best = np.full((len(x), _MAX_PAIRS), -np.inf, dtype=np.float32)
        places = np.zeros((len(x), _MAX_PAIRS), dtype=np.int64)

        def nearest_in(block: RowBlock, x: NDArray[np.float32] = x) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            found = x @ unit_length(block.x, [rows.dim]).T
            return _largest(found, np.broadcast_to(block.positions, found.shape), _MAX_PAIRS)

        for found, positions in in_order(nearest_in, _split(rows.blocks()), num_threads):
            together, all_places = np.concatenate([best, found], axis=1), np.concatenate([places, positions], axis=1)
            best, places = _largest(together, all_places, _MAX_PAIRS)
        pairs += [
            SimilarPair(digests[one], training[places[one, other]], min(float(best[one, other]), 1.0))
            for one, other in np.argwhere(best >= similarity - _ROUNDING)
        ]
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.test, pair.training))
