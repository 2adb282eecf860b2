"""Neighbours: the nearest embeddings by cosine similarity, as a check of the head and to find near-duplicates."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.references import unit_length
from headstart.base.threads import in_order
from headstart.linear.designs import Designs
from headstart.linear.rows import Block, Rows, merged

NUM_NEIGHBOURS = (1, 5, 20)
_BLOCK_ROWS = 512
_MOST_PAIRS = 10  # of a test image
_ROUNDING = 1e-6  # of a cosine in float32: the similarity of copies
_MOST_QUERIES = 4000  # the standard error of an accuracy of 0.9 is then half a percent


@dataclass(frozen=True)
class Pair:
    """A test image and a training image that look alike.

    Attributes:
        reported: Digest.
        training: Digest.
        similarity: Cosine of their embeddings.
    """

    reported: str
    training: str
    similarity: float


def knn_accuracies(designs: Designs, seed: int) -> dict[int, float]:
    """Return, for each number of neighbours, how often the neighbours of a training row have its class.

    Each row is compared with the rows of all other folds; each neighbour counts as much as it is similar. Of more than
    4,000 rows so many are drawn.

    Args:
        designs: Designs of a layer.
        seed: Seed of the draw.
    """
    rows, targets = designs.rows, designs.targets
    most = max(NUM_NEIGHBOURS)
    queries = np.sort(np.random.default_rng(seed).permutation(rows.num)[:_MOST_QUERIES])
    drawn = merged(rows.blocks(np.isin(np.arange(rows.num), queries)))
    x, positions, folds = unit_length(drawn.x), drawn.positions, rows.folds[drawn.positions]
    best = np.full((len(x), most), -np.inf, dtype=np.float32)
    classes = np.zeros((len(x), most), dtype=np.int64)

    def nearest_in(block: Block) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        found = x @ unit_length(block.x).T
        found[folds[:, None] == rows.folds[block.positions]] = -np.inf
        return _largest(found, np.broadcast_to(targets.classes[block.positions], found.shape), most)

    for found, labels in in_order(nearest_in, _smaller(rows.blocks()), designs.machine.num_threads):
        together, all_labels = np.concatenate([best, found], axis=1), np.concatenate([classes, labels], axis=1)
        best, classes = _largest(together, all_labels, most)
    accuracies = {}
    for number in NUM_NEIGHBOURS:
        votes = np.zeros((len(x), targets.num_classes))
        # From 0 to 2, so that also neighbours at more than a right angle count, and those that are not there do not.
        vote = np.where(np.isfinite(best[:, :number]), 1 + best[:, :number], 0.0)
        np.add.at(votes, (np.arange(len(x))[:, None], classes[:, :number]), vote)
        accuracies[number] = float((votes.argmax(axis=1) == targets.classes[positions]).mean())
    return accuracies


def _smaller(blocks: Iterable[Block]) -> Iterator[Block]:
    """Cut blocks: their similarities to many rows take more memory than they do."""
    for block in blocks:
        for start in range(0, len(block.x), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            yield Block(block.positions[part], block.x[part])


def _largest(
    values: NDArray[np.float32], labels: NDArray[np.int64], num: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the largest values of every row, descending, and what belongs to them."""
    chosen = np.argpartition(-values, num - 1, axis=1)[:, :num] if values.shape[1] > num else None
    if chosen is not None:
        values, labels = np.take_along_axis(values, chosen, 1), np.take_along_axis(labels, chosen, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, 1), np.take_along_axis(labels, order, 1)


def near_duplicates(
    reported: Iterable[tuple[Sequence[str], NDArray[np.float32]]],
    rows: Rows,
    training: Sequence[str],
    similarity: float,
    num_threads: int,
) -> list[Pair]:
    """Return pairs of a reported and a training image at least so similar, the most similar first.

    Of each test image the ten most similar training images at most: where all pictures are alike, all pairs would
    fill the memory.

    Args:
        reported: Digests and embeddings float32 (B, dim) of the test images, some at a time.
        rows: The training rows of the same layer.
        training: (N,) their digests.
        similarity: Least cosine of their embeddings.
        num_threads: Number of threads.
    """
    pairs: list[Pair] = []
    for digests, embeddings in reported:
        x = unit_length(embeddings)
        best = np.full((len(x), _MOST_PAIRS), -np.inf, dtype=np.float32)
        places = np.zeros((len(x), _MOST_PAIRS), dtype=np.int64)

        def nearest_in(block: Block, x: NDArray[np.float32] = x) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            found = x @ unit_length(block.x).T
            return _largest(found, np.broadcast_to(block.positions, found.shape), _MOST_PAIRS)

        for found, positions in in_order(nearest_in, _smaller(rows.blocks()), num_threads):
            together, all_places = np.concatenate([best, found], axis=1), np.concatenate([places, positions], axis=1)
            best, places = _largest(together, all_places, _MOST_PAIRS)
        pairs += [
            Pair(digests[one], training[places[one, other]], min(float(best[one, other]), 1.0))
            for one, other in np.argwhere(best >= similarity - _ROUNDING)
        ]
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.reported, pair.training))
