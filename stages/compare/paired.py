"""The paired comparison: both tracks on the same test images, and whether one is significantly better."""

from dataclasses import dataclass

from headstart.base.errors import TableError
from headstart.tables.intervals import CONFIDENCE
from headstart.tables.paired import mcnemar_p, paired_interval
from headstart.tables.predictions import Predictions


@dataclass(frozen=True)
class Comparison:
    """Fine-tuning against the head on the same test images.

    Attributes:
        num_images: Number of test images.
        num_only_head: Number of images that only the head got right.
        num_only_finetune: Number of images that only the fine-tuned network got right.
        difference: Accuracy of the fine-tuned network minus the head's.
        low: Lower end of the 95 % interval of the difference.
        high: Upper end of that interval.
        mcnemar_p: Two-sided p-value of the exact McNemar test. It is the probability that the images that only one
            track got right are divided at least as unevenly, if either track is equally likely to be the right one.
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
        """Return the difference in accuracy, under the names that the metrics of the tracks have, and the verdict."""
        return {
            "accuracy": self.difference,
            "accuracy_low": self.low,
            "accuracy_high": self.high,
            "num_images": self.num_images,
            "p_value": self.mcnemar_p,
            "ship": self.ship,
        }

    def counts(self) -> dict[str, int | bool]:
        """Return the numbers of images behind the difference, and whether it is significant."""
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
        different = sorted({*ours.items()} ^ {*theirs.items()})
        raise TableError(
            "predictions/head.csv and predictions/finetune.csv: expected the same images with the same labels; found "
            f"{len(different)} differences, the first is {different[0]}. Run: dvc repro head finetune"
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
