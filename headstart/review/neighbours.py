"""Neighbours: the training images that look most like an image, by the layers that the head reads."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from headstart.artifacts.bundle import Bundle, read_bundle
from headstart.artifacts.features import open_features


@dataclass(frozen=True)
class Neighbour:
    """A training image near another image.

    Attributes:
        digest: sha256 of the file.
        similarity: Cosine similarity of the two embeddings, averaged over the layers.
    """

    digest: str
    similarity: float


@dataclass(frozen=True)
class Neighbours:
    """Finds neighbours among the head's references: all training images, or a random sample of 10,000.

    The features file is opened for each question, because a stage may replace it at any time.

    Attributes:
        root: Folder of the project.
    """

    root: Path

    @cached_property
    def _bundle(self) -> Bundle:
        return read_bundle(self.root / "models/head")

    def nearest(self, digest: str, num: int) -> list[Neighbour]:
        """Return the neighbours of an image, the nearest first, without the image itself.

        Args:
            digest: sha256 of the image's file.
            num: Largest number of neighbours.

        Raises:
            BundleError: The head is missing or damaged.
            FeatureFileError: The features file is missing, damaged or of another spec, or lacks the image.
        """
        bundle = self._bundle
        references = bundle.references
        with open_features(self.root / "features/features.h5", bundle.spec) as features:
            embedding = np.concatenate([features.read(layer, [digest]) for layer in bundle.layers], axis=2)
        places, similarities = references.nearest(embedding, min(num + 1, len(references.digests)))
        found = [
            Neighbour(references.digests[place], float(similarity))
            for place, similarity in zip(places[0], similarities[0], strict=True)
        ]
        return [one for one in found if one.digest != digest][:num]
