"""Folds for cross-validation: groups stay whole, and every fold has its share of each class."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from headstart.base.errors import DataError


def make_folds(labels: Sequence[str], groups: Sequence[str], num_folds: int, seed: int, key: str) -> NDArray[np.int64]:
    """Return the fold of every row, int64 (N,), in [0, num_folds).

    The groups are shuffled and sorted by size, the largest first. Then each group goes to the fold with the fewest rows
    of the group's classes. Without groups, two folds differ by at most one row of any class. scikit-learn's
    StratifiedGroupKFold does nearly the same, but here neither the names nor the order of the classes play a part.

    Args:
        labels: (N,) name of every row's class, in the order of the rows' digests.
        groups: (N,) name of every row's group. The rows of a group are in the same fold.
        num_folds: Number of folds, at least 2.
        seed: Seed of the shuffle.
        key: Name of the param `folds` in params.yaml, for the error message.

    Raises:
        DataError: Every class has rows in fewer groups than there are folds.
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
        # For each fold: the fraction of each class that is there already, weighted by the group's rows of the class.
        crowding = [0.0] * num_folds
        for label, count in by_group[group].items():
            total = totals[label]
            crowding = [value + count * there / total for value, there in zip(crowding, placed[label], strict=True)]
        rounded = [round(value, 9) for value in crowding]  # so that ties stay ties
        _, _, fold = min(zip(rounded, num_placed, range(num_folds), strict=True))
        fold_of[group] = fold
        for label, count in by_group[group].items():
            placed[label][fold] += count
            num_placed[fold] += count
    return np.array([fold_of[group] for group in groups])
