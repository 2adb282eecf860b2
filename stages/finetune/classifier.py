"""The classifier: normalisation, backbone and linear head in one trainable network."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from headstart.backbone.layers import LayerReader, Normalisation
from headstart.imaging.transform import Transform
from headstart.linear.model import Float64Array, LinearModel


class Classifier(nn.Module):
    """Turns pictures into logits.

    Attributes:
        normalise: Turns uint8 pixels (B, px, px, 3) into normalised pictures, float32 (B, 3, px, px).
        backbone: Pretrained network without its classifier.
        reader: Reads the layers of the backbone that the head reads.
        embed: Turns inputs into embeddings, float32 (B, dim): the layers of the reader side by side. Inputs are
            normalised pictures, or what the frozen prefix gives while it is removed.
        head: Turns standardised embeddings into logits (B, C).

    Args:
        backbone: Pretrained network without its classifier.
        transform: Gives mean, std and the side of the pictures.
        layers: Names of the layers that the head reads.
        pooling: Name of an entry of `POOLINGS`.
        num_classes: Number of classes, C.
        seed: Seed of the head's random weights, which are torch's default for linear layers.
    """

    def __init__(
        self,
        backbone: nn.Module,
        transform: Transform,
        layers: Sequence[str],
        pooling: str,
        *,
        num_classes: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.normalise = Normalisation(transform)
        self.backbone = backbone
        self.reader = LayerReader(backbone, transform.crop_px, layers, pooling)
        self.embed: Callable[[torch.Tensor], torch.Tensor] = self._embed_pictures
        dim = sum(self.reader.dims.values())
        self._mean: torch.Tensor
        self._scale: torch.Tensor
        self.register_buffer("_mean", torch.zeros(dim))
        self.register_buffer("_scale", torch.ones(dim))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(dim, num_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C) of inputs, as `embed` takes them."""
        logits: torch.Tensor = self.head((self.embed(inputs) - self._mean) / self._scale)
        return logits

    def start_from(self, model: LinearModel, mean: Float64Array, scale: Float64Array) -> None:
        """Give the head the weights of a linear model on embeddings.

        Columns of embeddings have different sizes, but the optimizer moves all weights at the same rate. So the head
        learns weights of standardised columns.

        Args:
            model: Weights (C, dim) and biases (C,) on embeddings.
            mean: float64 (dim,), what the head subtracts from each column.
            scale: float64 (dim,), what it then divides each column by.
        """
        with torch.no_grad():
            self._mean.copy_(torch.from_numpy(mean))
            self._scale.copy_(torch.from_numpy(scale))
            self.head.weight.copy_(torch.from_numpy(model.weight * scale))
            self.head.bias.copy_(torch.from_numpy(model.bias + model.weight @ mean))

    def linear_model(self) -> LinearModel:
        """Return the head as a linear model on embeddings: weights (C, dim) and biases (C,)."""
        weight, bias, mean, scale = (
            tensor.detach().cpu().numpy().astype(np.float64)
            for tensor in (self.head.weight, self.head.bias, self._mean, self._scale)
        )
        return LinearModel(weight / scale, bias - (weight / scale) @ mean)

    def _embed_pictures(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(self.reader.read(inputs).values()), dim=1)
