"""The paired comparison: both tracks on the same images, and whether one is significantly better."""

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, ndtri

from headstart.base.errors import TableError
from headstart.tables.intervals import CONFIDENCE
from headstart.tables.predictions import Predictions


@dataclass(frozen=True)
class Comparison:
    """Fine-tuning against the head on the same test images.

    Attributes:
        num_images: Test images.
        num_only_head: Images that only the head got right.
        num_only_finetune: Images that only the fine-tuned network got right.
        difference: Accuracy of the fine-tuned network minus the head's.
        low: Lower end of the 95 % interval of the difference.
        high: Upper end of that interval.
        mcnemar_p: Two-sided p of the exact McNemar test: the probability that the images on which the tracks differ are
            divided at least as unevenly, if each track were equally likely to be right.
    """

    num_images: int
    num_only_head: int
    num_only_finetune: int
    difference: float
    low: float
    high: float
    mcnemar_p: float

    @property
    def is_significant(self) -> bool:
        """Whether the p-value is below 0.05."""
        return self.mcnemar_p < 1 - CONFIDENCE

    def metrics(self) -> dict[str, float | int | str]:
        """Return the difference of accuracies under the names that the tracks' own metrics have, and the verdict."""
        return {
            "accuracy": self.difference,
            "accuracy_low": self.low,
            "accuracy_high": self.high,
            "num_images": self.num_images,
            "p_value": self.mcnemar_p,
            "ship": self.ship,
        }

    def counts(self) -> dict[str, int | bool]:
        """Return what the difference rests on."""
        return {
            "num_only_head": self.num_only_head,
            "num_only_finetune": self.num_only_finetune,
            "is_significant": self.is_significant,
        }

    @property
    def ship(self) -> str:
        """The recommended track: the head, which is simpler and faster, unless fine-tuning is significantly better."""
        return "finetune" if self.is_significant and self.difference > 0 else "head"


def compare(head: Predictions, finetune: Predictions) -> Comparison:
    """Compare both tracks image by image.

    Raises:
        TableError: The tracks do not have the same images with the same labels.
    """
    ours, theirs = (dict(zip(each.digests, each.labels, strict=True)) for each in (head, finetune))
    if ours != theirs:
        strange = sorted({*ours.items()} ^ {*theirs.items()})
        raise TableError(
            "predictions/head.csv and predictions/finetune.csv: expected the same images with the same labels; found "
            f"{len(strange)} differences, the first {strange[0]}. Run: dvc repro head finetune"
        )
    right_head, right_finetune = (
        {digest for digest, label, name in zip(each.digests, each.labels, each.predicted, strict=True) if label == name}
        for each in (head, finetune)
    )
    only_head, only_finetune = len(right_head - right_finetune), len(right_finetune - right_head)
    low, high = paired_interval(len(ours), only_head, only_finetune)
    return Comparison(
        num_images=len(ours),
        num_only_head=only_head,
        num_only_finetune=only_finetune,
        difference=(only_finetune - only_head) / len(ours),
        low=low,
        high=high,
        mcnemar_p=mcnemar_p(only_head, only_finetune),
    )


def mcnemar_p(num_first: int, num_second: int) -> float:
    """Return the two-sided exact p-value of the numbers of images that only one of the two got right."""
    return min(1.0, 2 * float(bdtr(min(num_first, num_second), num_first + num_second, 0.5)))


def paired_interval(num: int, num_first: int, num_second: int) -> tuple[float, float]:
    """Return the 95 % interval of the second's accuracy minus the first's (Agresti & Min 2005).

    It is Wald's interval with half an image added to each of the four cells. A bootstrap interval would have no width
    if the two agreed on every image.

    Args:
        num: Number of images.
        num_first: Images that only the first got right.
        num_second: Images that only the second got right.
    """
    first, second, total = num_first + 0.5, num_second + 0.5, num + 2
    middle = (second - first) / total
    margin = float(ndtri((1 + CONFIDENCE) / 2)) * np.sqrt((first + second) / total - middle**2) / np.sqrt(total)
    return max(-1.0, float(middle - margin)), min(1.0, float(middle + margin))
