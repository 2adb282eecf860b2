"""The comparison: the head before and after it was trained anew, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.tables.pairs import pair
from headstart.tables.predictions import Predictions

# Most digests of a kind that are listed.
_MOST_LISTED = 200


@dataclass(frozen=True)
class HeadResults:
    """What a run of the head left.

    Attributes:
        predictions: Predictions on the test set.
        suspects: Digests of the label suspects, in their order.
    """

    predictions: Predictions
    suspects: Sequence[str]


def compare(before: HeadResults, after: HeadResults) -> dict[str, Any]:
    """Compare two heads on the test images that both predicted, by the labels that these have now.

    Returns:
        `num_common` images; `accuracy_before` and `accuracy_after` on them, their `difference` with its 95 % interval
        (`low`, `high`) and the exact `p_value` of McNemar's test, all None without a common image; the numbers of
        images `newly_right` and `newly_wrong`, of `suspects_gone` and `suspects_new`, each with `<name>_digests` of at
        most 200; `num_labels_changed`, the common images whose label is another one now; and `num_only_before` and
        `num_only_after`, the images that only one of the two tested.
    """
    pairs = pair(before.predictions, after.predictions)
    digests, num = np.array(pairs.after.digests, dtype=object), pairs.num_images
    moved = {
        "newly_right": digests[pairs.newly_right].tolist(),
        "newly_wrong": digests[pairs.newly_wrong].tolist(),
        "suspects_gone": _without(before.suspects, after.suspects),
        "suspects_new": _without(after.suspects, before.suspects),
    }
    numbers: dict[str, Any] = {
        "num_common": num,
        "num_only_before": pairs.num_only_before,
        "num_only_after": pairs.num_only_after,
        "num_labels_changed": pairs.num_relabelled,
    }
    names = ("accuracy_before", "accuracy_after", "difference", "low", "high", "p_value")
    numbers |= dict.fromkeys(names)
    if num:
        accuracies = (int(right.sum()) / num for right in (pairs.was_right, pairs.is_right))
        numbers |= dict(zip(names, (*accuracies, pairs.difference, *pairs.interval, pairs.p_value), strict=True))
    for name, found in moved.items():
        numbers |= {name: len(found), f"{name}_digests": found[:_MOST_LISTED]}
    return numbers


def _without(digests: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [digest for digest in digests if digest not in known]
