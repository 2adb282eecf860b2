"""The evidence: measurements of the other stages that the advice rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.tables.head import LabelSuspect, LayerScore
from headstart.tables.metrics import read_metrics
from headstart.tables.predictions import Predictions
from headstart.tables.rows import read_rows
from stages.compare.paired import Comparison


@dataclass(frozen=True)
class Evidence:
    """The measurements that the advice rests on.

    Attributes:
        num_training: Number of training images.
        num_classes: Number of classes.
        doubling_gain: Accuracy that twice as many training images would add to the head (an estimate, as a fraction).
        doubling_gain_low: Lower end of the 95 % interval of `doubling_gain`.
        doubling_gain_high: Upper end of that interval.
        layers: Cross-validated scores of each layer, by depth.
        comparison: Comparison of both tracks.
        head_accuracy: Accuracy of the head on the test images.
        finetune_accuracy: Accuracy of the fine-tuned network on the test images.
        kept_epoch: Epoch that fine-tuning kept; 0 is the start.
        kept_share: Weight of this epoch in its mean with the start, above 0 and at most 1.
        num_epochs: Number of epochs that fine-tuning ran.
        backbone_rate: Learning rate of the backbone's last layers.
        layer_decay: Learning rate of a block divided by that of the block after it.
        num_views: Number of views of each image.
        num_suspects: Number of training images whose label may be wrong.
    """

    num_training: int
    num_classes: int
    doubling_gain: float
    doubling_gain_low: float
    doubling_gain_high: float
    layers: Sequence[LayerScore]
    comparison: Comparison
    head_accuracy: float
    finetune_accuracy: float
    kept_epoch: int
    kept_share: float
    num_epochs: int
    backbone_rate: float
    layer_decay: float
    num_views: int
    num_suspects: int


def read_evidence(comparison: Comparison, head: Predictions, finetune: Predictions) -> Evidence:
    """Read the evidence from the working directory.

    Args:
        comparison: Comparison of both tracks.
        head: Predictions of the head.
        finetune: Predictions of the fine-tuned network.

    Raises:
        TableError: A file is missing or damaged.
    """
    data = read_metrics(Path("diagnostics/data.json"), "num_train", "num_val", "num_classes")
    extracted = read_metrics(Path("diagnostics/extract.json"), "num_views")
    gains = ("doubling_gain", "doubling_gain_low", "doubling_gain_high")
    trained = read_metrics(Path("diagnostics/head_training.json"), *gains)
    tuning = ("kept_epoch", "kept_share", "num_epochs", "backbone_rate", "layer_decay")
    tuned = read_metrics(Path("diagnostics/finetune_training.json"), *tuning)
    return Evidence(
        num_training=data["num_train"] + data["num_val"],
        num_classes=data["num_classes"],
        layers=read_rows(Path("plots/head_training/layers.csv"), LayerScore),
        comparison=comparison,
        head_accuracy=head.accuracy,
        finetune_accuracy=finetune.accuracy,
        num_views=extracted["num_views"],
        num_suspects=len(read_rows(Path("diagnostics/head/label_suspects.csv"), LabelSuspect)),
        **{name: trained[name] for name in gains},
        **{name: tuned[name] for name in tuning},
    )
