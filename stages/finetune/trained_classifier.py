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
from stages.finetune.memory import ForwardPasses
from stages.finetune.subsets import LabelledImage


class TrainedClassifier:
    """A trained classifier that predicts.

    Args:
        classifier: The classifier, on its device.
        loader: Loader of the images.
        batch: Number of images that are loaded at once.
        device: Device of the classifier.
    """

    def __init__(self, classifier: Classifier, loader: Loader, batch: int, device: torch.device) -> None:
        self._classifier, self._loader, self._batch, self._device = classifier, loader, batch, device
        self._passes = ForwardPasses(device, batch)

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
        model, reader, dims = self._classifier.linear_model(), self._classifier.reader, self._dims
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

    def embed_known(self, training: Sequence[LabelledImage]) -> NDArray[np.float32]:
        """Return the embeddings of the training images that can be references, float32 (M, dim), means over the views.

        Args:
            training: Training images, by digest.
        """
        return np.concatenate([views.mean(axis=1) for views in self._embeddings(training[:MOST_REFERENCES])])

    def held_out(
        self, temperature: float, validation: Sequence[LabelledImage], known: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return confidence and similarity of images that were not trained on, float32 (Q, 2), as in `References`.

        The images are those of the inner validation. They chose the weights, so their confidences are slightly too
        high.

        Args:
            temperature: Temperature that calibrates the logits.
            validation: Images of the inner validation.
            known: Embeddings of the images that this classifier was trained on, as `embed_known` returns them.
        """
        model = self._classifier.linear_model()
        held_out = np.concatenate(list(self._embeddings(validation[:MOST_HELD_OUT]))).mean(axis=1)
        confidence = softmax(model.logits(held_out.astype(np.float64)) / temperature, axis=1).max(axis=1)
        similarity = nearest_similarity(held_out, known, self._dims)
        return np.stack([confidence, similarity], axis=1).astype(np.float32)

    def references(
        self, training: Sequence[LabelledImage], known: NDArray[np.float32], held_out: NDArray[np.float32]
    ) -> References:
        """Return training images as references.

        Args:
            training: Training images, by digest.
            known: Their embeddings, as `embed_known` returns them.
            held_out: As `held_out` returns it.
        """
        images = training[: len(known)]
        return make_references(
            [image.row.digest for image in images],
            [image.row.path for image in images],
            [image.label for image in images],
            known,
            held_out,
            dims=self._dims,
        )

    @property
    def _dims(self) -> list[int]:
        """Number of values of each layer's embedding, by depth."""
        reader = self._classifier.reader
        return [reader.dims[layer] for layer in reader.layers]

    def _embeddings(self, images: Sequence[LabelledImage]) -> Iterator[NDArray[np.float32]]:
        """Give the embeddings that the head reads, float32 (B, views, dim), a batch at a time."""
        self._classifier.eval()
        batches = even_batches(np.arange(len(images)), self._batch)
        with torch.inference_mode():
            for _, inputs in views_of(self._loader, self._classifier.normalise, images, batches, self._device):
                embeddings = self._passes(self._classifier.embed, inputs.flatten(0, 1)).reshape(*inputs.shape[:2], -1)
                yield embeddings.float().cpu().numpy()
