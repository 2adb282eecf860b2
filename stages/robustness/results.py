"""The results: accuracies with intervals, and the paired difference of the tracks, under each shift."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from headstart.tables.intervals import wilson_interval
from headstart.tables.paired import mcnemar_p, paired_interval
from headstart.tables.robustness import Accuracy, Condition, Robustness
from stages.robustness.shifts import SHIFTS


def summarise(right: Mapping[str, NDArray[np.bool_]]) -> Robustness:
    """Return the accuracies of both tracks on the same pictures.

    Args:
        right: Whether each picture is predicted rightly, (N, 1 + `len(SHIFTS)`) by track. The first column is of the
            unshifted images.
    """
    head, finetune = right["head"], right["finetune"]
    names = [("unshifted", "unshifted"), *((shift.name, shift.title) for shift in SHIFTS)]
    return Robustness(
        num_images=len(head),
        conditions=[
            _condition(name, title, head[:, column], finetune[:, column]) for column, (name, title) in enumerate(names)
        ],
        mean_head=float(head[:, 1:].mean()),
        mean_finetune=float(finetune[:, 1:].mean()),
    )


def describe(robustness: Robustness) -> str:
    """Return the accuracies in one line."""
    if not robustness.num_images:
        return (
            "WARNING: the photos are missing, so nothing was checked. Copy them here, then run: "
            "dvc repro -f -s robustness"
        )
    unshifted, *shifted = robustness.conditions
    each = ", ".join(f"{one.name} {one.head.accuracy:.3f} and {one.finetune.accuracy:.3f}" for one in shifted)
    return (
        f"accuracy of head and finetune on {robustness.num_images} test images: unshifted "
        f"{unshifted.head.accuracy:.3f} and {unshifted.finetune.accuracy:.3f}, {each}; mean of the shifts "
        f"{robustness.mean_head:.3f} and {robustness.mean_finetune:.3f}"
    )


def _condition(name: str, title: str, head: NDArray[np.bool_], finetune: NDArray[np.bool_]) -> Condition:
    only_head, only_finetune = int((head & ~finetune).sum()), int((finetune & ~head).sum())
    low, high = paired_interval(len(head), only_head, only_finetune)
    return Condition(
        name=name,
        title=title,
        head=_accuracy(head),
        finetune=_accuracy(finetune),
        difference=(only_finetune - only_head) / len(head),
        difference_low=low,
        difference_high=high,
        p_value=mcnemar_p(only_head, only_finetune),
    )


def _accuracy(right: NDArray[np.bool_]) -> Accuracy:
    accuracy = float(right.mean())
    return Accuracy(accuracy, *wilson_interval(accuracy, len(right)))
