"""Training and test rows of one run: some images of each class at random, or the split of the data set itself."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from headstart.tables.names import SPLIT_NAMES
from headstart.tables.split import SplitRow

MOST_TEST = 3000


def has_own_split(rows: Sequence[SplitRow]) -> bool:
    """Return whether the top folders of all images are split folders."""
    parts = [PurePosixPath(row.path).parts for row in rows]
    return all(len(names) > 2 and names[0].lower() in SPLIT_NAMES for names in parts)


def sizes_of(rows: Sequence[SplitRow], sizes: Sequence[int]) -> list[int]:
    """Return the sizes, in images per class, of which at least half of the classes have enough training images."""
    _, counts = np.unique([row.label for row in rows], return_counts=True)
    return [size for size in sizes if size <= np.median(3 * counts // 4)]


def draw(rows: Sequence[SplitRow], size: int | None, seed: int) -> list[SplitRow]:
    """Draw training rows of every class at random; the other rows are for testing.

    Groups are not kept whole: sets whose images belong together would be tested on what they were trained on.

    Args:
        rows: Rows of all images. Their splits play no part.
        size: Number of training rows of each class, but at most three quarters of the class. None: three quarters.
        seed: Seed of the draw.

    Returns:
        The rows by digest, with the split `train` or `test`, of which there are at most 3,000.
    """
    random = np.random.default_rng(seed)
    by_class: dict[str, list[SplitRow]] = {}
    for row in sorted(rows, key=lambda row: row.digest):
        by_class.setdefault(row.label, []).append(row)
    training, test = [], []
    for label in sorted(by_class):
        drawn = [by_class[label][place] for place in random.permutation(len(by_class[label]))]
        most = max(1, 3 * len(drawn) // 4)
        num = most if size is None else min(size, most)
        training += [replace(row, split="train") for row in drawn[:num]]
        test += [replace(row, split="test") for row in drawn[num:]]
    kept = [test[place] for place in random.permutation(len(test))[:MOST_TEST]]
    return sorted(training + kept, key=lambda row: row.digest)
