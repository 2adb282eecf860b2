"""The trained classifier: its bundle with references, and its predictions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from stages.finetune.subsets import LabelledImage


class TrainedClassifier:
    """A trained classifier that predicts.

    Args:
        classifier: The classifier, on its device.
        loader: Loader of the images.
        batch: Number of images in a forward pass.
        device: Device of the classifier.
    """

    def __init__(self, classifier: Classifier, loader: Loader, batch: int, device: torch.device) -> None:
        self._classifier, self._loader, self._batch, self._device = classifier, loader, batch, device

    def bundle(
        self,
        spec: dict[str, Any],
        classes: Sequence[str],
        temperature: float,
        trained_on: Mapping[str, str | int],
    ) -> Bundle:
        """Return the bundle, without references.

        Args:
            spec: Spec of the cached embeddings.
            classes: (C,) names in the order of the logits.
            temperature: Number that logits are divided by.
            trained_on: Digests and numbers that say what the classifier was trained on, by name.
        """
        model, reader = self._classifier.linear_model(), self._classifier.reader
        dims = [reader.dims[layer] for layer in reader.layers]
        backbone = {name: tensor.cpu().numpy() for name, tensor in self._classifier.backbone.state_dict().items()}
        return Bundle(
            track="finetune",
            classes=classes,
            spec=spec | {"layers": list(reader.layers)},
            layers=reader.layers,
            dims=dims,
            temperature=temperature,
            trained_on=trained_on,
            weight=model.weight.astype(np.float32),
            bias=model.bias.astype(np.float32),
            references=References.none(dims),
            backbone=backbone,
        )

    def predict(self, bundle: Bundle, images: Sequence[LabelledImage]) -> Predictions:
        """Return the calibrated logits of images.

        Args:
            bundle: Bundle of this classifier, which has the temperature.
            images: Images to predict.
        """
        logits = np.concatenate([bundle.logits(views) for views in self._embeddings(images)])
        digests, paths = tuple(image.row.digest for image in images), tuple(image.row.path for image in images)
        return Predictions(digests, paths, tuple(image.label for image in images), bundle.classes, logits)

    def references(
        self, bundle: Bundle, training: Sequence[LabelledImage], held_out: Sequence[LabelledImage]
    ) -> References:
        """Return training images as references, with confidence and similarity of images that were not trained on.

        Args:
            bundle: Bundle of this classifier, whose calibrated head gives the confidences.
            training: Training images, by digest.
            held_out: Images of the inner validation. They chose the epoch, so their confidences are slightly too high.
        """
        known, held_out = training[:MOST_REFERENCES], held_out[:MOST_HELD_OUT]
        embeddings = np.concatenate([views.mean(axis=1) for views in self._embeddings(known)])
        views = np.concatenate(list(self._embeddings(held_out)))
        confidence = softmax(bundle.logits(views), axis=1).max(axis=1)
        similarity = nearest_similarity(views.mean(axis=1), embeddings, bundle.dims)
        return make_references(
            [image.row.digest for image in known],
            [image.row.path for image in known],
            [image.label for image in known],
            embeddings,
            np.stack([confidence, similarity], axis=1).astype(np.float32),
            dims=bundle.dims,
        )

    def _embeddings(self, images: Sequence[LabelledImage]) -> Iterator[NDArray[np.float32]]:
        """Give the embeddings that the head reads, float32 (B, views, dim), a batch at a time."""
        self._classifier.eval()
        batches = even_batches(np.arange(len(images)), self._batch)
        with torch.inference_mode():
            for _, inputs in views_of(self._loader, self._classifier.normalise, images, batches, self._device):
                embeddings = self._classifier.embed(inputs.flatten(0, 1)).reshape(*inputs.shape[:2], -1)
                yield embeddings.float().cpu().numpy()
