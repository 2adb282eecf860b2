"""Folds: every training row is held out once, groups stay whole, and each fold has its share of every class."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import DataError


def make_folds(labels: Sequence[str], groups: Sequence[str], num_folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of every row, (N,) in [0, num_folds).

    Groups are shuffled and placed one by one, the largest first, each where its classes are fewest. So without groups
    no two folds differ by more than one row of a class, and no fold depends on the names or the order of classes.

    Args:
        labels: (N,) class of every row, in the order of their digests.
        groups: (N,) rows of one group are held out together.
        num_folds: At least 2.
        seed: Of the shuffle.

    Raises:
        DataError: No class has rows in so many groups.
    """
    names, group_N = np.unique(np.asarray(groups), return_inverse=True)
    classes, class_N = np.unique(np.asarray(labels), return_inverse=True)
    num_groups = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    most = max(num_groups.values())
    if most < num_folds:
        raise DataError(
            f"head.folds: found {num_folds}, but no class has more than {most} training images (or groups of images)"
        )
    counts_GC = np.zeros((len(names), len(classes)))
    np.add.at(counts_GC, (group_N, class_N), 1)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-counts_GC[shuffled].sum(axis=1), kind="stable")]
    share_GC = counts_GC / counts_GC.sum(axis=0)
    placed_FC, rows_F = np.zeros((num_folds, len(classes))), np.zeros(num_folds)
    fold_G = np.empty(len(names), dtype=np.int64)
    for group in order:
        held = placed_FC @ share_GC[group]
        fold = int(np.lexsort((rows_F, np.round(held, 9)))[0])  # fewest of its classes, then fewest rows
        fold_G[group] = fold
        placed_FC[fold] += counts_GC[group]
        rows_F[fold] += counts_GC[group].sum()
    return fold_G[group_N]
