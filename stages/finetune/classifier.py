"""The classifier: normalisation, backbone and linear head in one trainable network."""

import numpy as np
import torch
from torch import nn

from headstart.backbone.layers import Normalisation
from headstart.imaging.transform import Transform
from headstart.linear.model import LinearModel


class Classifier(nn.Module):
    """Turns pictures into logits.

    Attributes:
        normalise: Turns uint8 pixels (B, px, px, 3) into normalised pictures, float32 (B, 3, px, px).
        backbone: Turns pictures into embeddings (B, dim).
        head: Turns embeddings into logits (B, C).

    Args:
        backbone: Pretrained network without its classifier.
        transform: Gives mean, std and the side of the pictures.
        num_classes: Number of classes, C.
        seed: Seed of the head's random weights, which are torch's default for linear layers.
    """

    def __init__(self, backbone: nn.Module, transform: Transform, num_classes: int, seed: int) -> None:
        super().__init__()
        self.normalise = Normalisation(transform)
        self.backbone = backbone
        with torch.inference_mode():
            blank = torch.zeros(1, transform.crop_px, transform.crop_px, 3, dtype=torch.uint8)
            dim = backbone(self.normalise(blank)).shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(dim, num_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (B, C) of normalised pictures (B, 3, px, px)."""
        logits: torch.Tensor = self.head(self.backbone(inputs))
        return logits

    def set_head(self, model: LinearModel) -> None:
        """Replace the weights (C, dim) and biases (C,) of the head."""
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(model.weight.astype(np.float32)))
            self.head.bias.copy_(torch.from_numpy(model.bias.astype(np.float32)))
