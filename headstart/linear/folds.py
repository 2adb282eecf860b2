"""Folds: every training row is held out once, groups stay whole, and each fold has its share of every class."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from headstart.base.errors import DataError


def make_folds(labels: Sequence[str], groups: Sequence[str], num_folds: int, seed: int, key: str) -> NDArray[np.int64]:
    """Return the fold of every row, (N,) in [0, num_folds).

    Groups are shuffled and placed one by one, the largest first, each where its classes are fewest. So without groups
    no two folds differ by more than one row of a class, and no fold depends on the names or the order of classes.

    Args:
        labels: (N,) class of every row, in the order of their digests.
        groups: (N,) rows of one group are held out together.
        num_folds: At least 2.
        seed: Seed of the shuffle.
        key: Name of the number of folds in params.yaml, for the message.

    Raises:
        DataError: No class has rows in so many groups.
    """
    by_group: dict[str, dict[str, int]] = {}
    for label, group in zip(labels, groups, strict=True):
        counts = by_group.setdefault(group, {})
        counts[label] = counts.get(label, 0) + 1
    num_groups = Counter(chain.from_iterable(by_group.values()))
    most = max(num_groups.values())
    if most < num_folds:
        raise DataError(
            f"{key}: found {num_folds}, but no class has more than {most} training images (or groups of images)"
        )
    names, totals = sorted(by_group), Counter(labels)
    shuffled = [names[number] for number in np.random.default_rng(seed).permutation(len(names))]
    placed = {label: [0] * num_folds for label in totals}
    num_placed = [0] * num_folds
    fold_of: dict[str, int] = {}
    for group in sorted(shuffled, key=lambda name: -sum(by_group[name].values())):
        crowded = [0.0] * num_folds
        for label, count in by_group[group].items():
            total = totals[label]
            crowded = [much + count * there / total for much, there in zip(crowded, placed[label], strict=True)]
        rounded = [round(much, 9) for much in crowded]
        _, _, fold = min(zip(rounded, num_placed, range(num_folds), strict=True))
        fold_of[group] = fold
        for label, count in by_group[group].items():
            placed[label][fold] += count
            num_placed[fold] += count
    return np.array([fold_of[group] for group in groups])
