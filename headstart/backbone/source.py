"""Sources of backbones: what all of them do, and what they share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from headstart.backbone.params import BackboneParams
from headstart.backbone.spec import BackboneFacts
from headstart.backbone.weights import WeightsFile
from headstart.base.errors import BackboneError


@dataclass(frozen=True)
class Backbone:
    """A network without its classifier, with pretrained weights.

    Attributes:
        facts: What is known about it without its tensors.
        network: Turns float32 pictures (B, 3, px, px) into float32 (B, dim), the input of its former classifier.
    """

    facts: BackboneFacts
    network: nn.Module


class Source(Protocol):
    """A library or a set of packages that knows networks by name, and where their weights are published.

    Attributes:
        accepts_files: Whether `backbone.weights` may name a file for its networks.
    """

    accepts_files: bool

    def knows(self, name: str) -> bool:
        """Return whether this source has a network of this name, as `backbone.name` gives it."""
        ...

    def names(self) -> list[str]:
        """Return the names of its networks."""
        ...

    def build(self, params: BackboneParams) -> Backbone:
        """Build a network that it knows, with its weights and without its classifier, on the CPU.

        Raises:
            BackboneError: The weights are unknown, missing or do not fit.
            DownloadError: The weights cannot be fetched.
        """
        ...

    def build_bare(self, name: str, px: int) -> nn.Module:
        """Build a network that it knows, with random weights and without its classifier, on the CPU.

        Args:
            name: Name of the network.
            px: Side of its pictures, in pixels.
        """
        ...

    def weights_setting(self, name: str, sha256: str) -> str:
        """Return the value of `backbone.weights` for the published file with this digest; `auto` if none is known."""
        ...


def load_tensors(
    network: nn.Module, tensors: Mapping[str, torch.Tensor], params: BackboneParams, weights: WeightsFile
) -> None:
    """Load the tensors of a weights file into a network.

    Raises:
        BackboneError: Their names or shapes are not those of the network.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise misfit(params, weights, str(error)) from error


def misfit(params: BackboneParams, weights: WeightsFile, reason: str) -> BackboneError:
    """Return the error for a weights file that does not fit its network."""
    first_lines = " ".join(line.strip() for line in reason.splitlines()[:3])
    return BackboneError(f"{weights.path}: does not fit {params.name}: {first_lines[:600]}")
