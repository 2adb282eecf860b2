"""Training the head: cached embeddings and labels to a bundle and its predictions of the reported split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.core.bundle import Bundle
from stages.core.errors import DataError
from stages.core.features import Features, fingerprint
from stages.core.tables import Predictions, SplitRow
from stages.head.params import HeadParams
from stages.head.probe import Probe, fit_probe


@dataclass(frozen=True)
class TrainedHead:
    """What training gives.

    Attributes:
        bundle: The classifier.
        predictions: Its calibrated logits for every reported image.
        probe: The fit and its cross-validated scores.
    """

    bundle: Bundle
    predictions: Predictions
    probe: Probe


def train_head(
    features: Features, split: Sequence[SplitRow], classes: Sequence[str], split_sha256: str, params: HeadParams
) -> TrainedHead:
    """Fit the head on the training rows, then, when all is chosen, predict the reported ones.

    Args:
        features: Open features file.
        split: Every row; `test` rows are reported, all others are for training and selection.
        classes: (C,) order of the logits.
        split_sha256: Digest of the split table, for the record.
        params: The section `head`.

    Raises:
        DataError: A split without rows, or a class that cannot be trained.
        FeatureFileError: An image without an embedding.
    """
    training = [row for row in split if row.split != "test"]
    reported = [row for row in split if row.split == "test"]
    if not training or not reported:
        raise DataError(
            f"data/split.csv: {len(training)} training and {len(reported)} reported rows; expected some of each"
        )
    tap = features.spec["taps"][-1]  # the deepest one
    embeddings_NVD = features.read(tap, [row.digest for row in training])
    probe = fit_probe(embeddings_NVD.mean(axis=1), [row.label for row in training], classes, params)
    bundle = Bundle(
        track="head",
        classes=classes,
        spec=features.spec,
        tap=tap,
        temperature=1.0,
        trained_on={
            "features": fingerprint(features.spec),
            "split_sha256": split_sha256,
            "num_images": len(training),
        },
        weight=probe.weight,
        bias=probe.bias,
    )
    logits = bundle.logits(features.read(tap, [row.digest for row in reported]))
    digests, paths, labels = (tuple(getattr(row, name) for row in reported) for name in ("digest", "path", "label"))
    return TrainedHead(bundle, Predictions(digests, paths, labels, classes, np.asarray(logits)), probe)
