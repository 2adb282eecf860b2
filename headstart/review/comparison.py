"""The comparison: the head before and after it was trained anew, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.tables.paired import mcnemar_p, paired_interval
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
    old = _outcomes(before.predictions)
    new = _outcomes(after.predictions)
    common = [digest for digest in after.predictions.digests if digest in old]
    was_right = {digest for digest in common if old[digest][0] == new[digest][1]}
    is_right = {digest for digest in common if new[digest][0] == new[digest][1]}
    won, lost = is_right - was_right, was_right - is_right
    moved = {
        "newly_right": [digest for digest in common if digest in won],
        "newly_wrong": [digest for digest in common if digest in lost],
        "suspects_gone": _without(before.suspects, after.suspects),
        "suspects_new": _without(after.suspects, before.suspects),
    }
    num = len(common)
    numbers: dict[str, Any] = {
        "num_common": num,
        "num_only_before": len(old) - num,
        "num_only_after": len(new) - num,
        "num_labels_changed": sum(old[digest][1] != new[digest][1] for digest in common),
    }
    names = ("accuracy_before", "accuracy_after", "difference", "low", "high", "p_value")
    numbers |= dict.fromkeys(names)
    if num:
        low, high = paired_interval(num, len(lost), len(won))
        values = (len(was_right) / num, len(is_right) / num, (len(won) - len(lost)) / num, low, high)
        numbers |= dict(zip(names, (*values, mcnemar_p(len(lost), len(won))), strict=True))
    for name, digests in moved.items():
        numbers |= {name: len(digests), f"{name}_digests": digests[:_MOST_LISTED]}
    return numbers


def _outcomes(predictions: Predictions) -> dict[str, tuple[str, str]]:
    """Return the predicted class and the label of each image, by digest."""
    pairs = zip(predictions.predicted, predictions.labels, strict=True)
    return dict(zip(predictions.digests, pairs, strict=True))


def _without(digests: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [digest for digest in digests if digest not in known]
