"""Normalisation: the last step of a transform, in torch, beside the network's first layer."""

import torch
from torch import nn

from headstart.imaging.transform import Transform


class Normalisation(nn.Module):
    """Scales pixels to [0, 1], subtracts the mean of each channel and divides by its standard deviation.

    Args:
        transform: Has both.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self._mean: torch.Tensor
        self._std: torch.Tensor
        self.register_buffer("_mean", torch.tensor(transform.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(transform.std).reshape(3, 1, 1), persistent=False)

    def forward(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, 3, px, px) of uint8 pixels (B, px, px, 3)."""
        # A view of pixels in this order is a channels-last tensor: the faster layout for convolutions, at no cost.
        scaled = pixels_BHWC.permute(0, 3, 1, 2).to(torch.float32) / 255
        return (scaled - self._mean) / self._std
