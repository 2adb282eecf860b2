"""The outcome: what the network, when it is trained, says of images: references of the bundle, and predictions."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from headstart.artifacts.bundle import Bundle
from headstart.artifacts.references import (
    MOST_HELD_OUT,
    MOST_REFERENCES,
    References,
    make_references,
    nearest_similarity,
)
from headstart.tables.predictions import Predictions
from stages.finetune.classifier import Classifier
from stages.finetune.inputs import views_of
from stages.finetune.loader import Loader, even_batches
from stages.finetune.subsets import Image


class Outcome:
    """A trained classifier.

    Args:
        classifier: The classifier, on its device.
        loader: Loader of the images.
        batch: Images in a forward pass.
        device: The classifier's.
    """

    def __init__(self, classifier: Classifier, loader: Loader, batch: int, device: torch.device) -> None:
        self._classifier, self._loader, self._batch, self._device = classifier, loader, batch, device

    def predict(self, bundle: Bundle, images: Sequence[Image]) -> Predictions:
        """Return the bundle's calibrated logits of images."""
        logits = np.concatenate([bundle.logits(views) for views in self._embeddings(images)])
        digests, paths = tuple(image.row.digest for image in images), tuple(image.row.path for image in images)
        return Predictions(digests, paths, tuple(image.label for image in images), bundle.classes, logits)

    def references(self, bundle: Bundle, training: Sequence[Image], held_out: Sequence[Image]) -> References:
        """Return training images as references, and how images fared that were not trained on.

        Args:
            bundle: Whose head gives confidences.
            training: Training images, by digest.
            held_out: The inner validation. It chose the epoch, so its confidences are a little too good.
        """
        known, held_out = training[:MOST_REFERENCES], held_out[:MOST_HELD_OUT]
        embeddings = np.concatenate([views.mean(axis=1) for views in self._embeddings(known)])
        views = np.concatenate(list(self._embeddings(held_out)))
        confidence = softmax(bundle.logits(views), axis=1).max(axis=1)
        similarity = nearest_similarity(views.mean(axis=1), embeddings)
        return make_references(
            [image.row.digest for image in known],
            [image.row.path for image in known],
            [image.label for image in known],
            embeddings,
            np.stack([confidence, similarity], axis=1).astype(np.float32),
        )

    def _embeddings(self, images: Sequence[Image]) -> Iterator[NDArray[np.float32]]:
        """Give what the head reads of images, (B, views, dim), a batch at a time."""
        self._classifier.eval()
        batches = even_batches(np.arange(len(images)), self._batch)
        with torch.inference_mode():
            for _, inputs in views_of(self._loader, self._classifier.normalise, images, batches, self._device):
                embeddings = self._classifier.backbone(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
                yield embeddings.float().cpu().numpy()
