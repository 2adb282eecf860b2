"""Backbones: pretrained networks without their classifier, frozen.

To add a source of backbones, write a class like `TimmSource` and put it into `SOURCES`.
"""

import difflib

from torch import nn

from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.packaged import INSTALLED
from headstart.backbone.packaged_source import PackagedSource
from headstart.backbone.params import BackboneParams
from headstart.backbone.source import Backbone, Source
from headstart.backbone.spec import BackboneFacts
from headstart.backbone.timm_source import TimmSource
from headstart.backbone.torchvision_source import TorchvisionSource
from headstart.base.errors import BackboneError

SOURCES: list[type[Source]] = [PackagedSource, TimmSource, TorchvisionSource]


def source_of(name: str) -> Source:
    """Return the first source that knows a backbone.

    Args:
        name: Name as in `backbone.name`.

    Raises:
        BackboneError: No source knows it. The message has the names that are most like it.
    """
    sources = [source() for source in SOURCES]
    for source in sources:
        if source.knows(name):
            return source
    near = difflib.get_close_matches(name, [known for source in sources for known in source.names()], n=5)
    hint = f"did you mean {', '.join(near)}?" if near else "expected a name such as resnet18 or timm/resnet18"
    raise BackboneError(f"backbone.name: {name!r} is not known; {hint} ({INSTALLED} needs no download)")


def build_backbone(params: BackboneParams) -> Backbone:
    """Find the weights, build the network, remove its classifier and freeze it.

    Returns:
        The backbone on the CPU, in eval mode, without gradients.

    Raises:
        BackboneError: The name is unknown, or the weights do not fit.
        DownloadError: The weights cannot be fetched.
    """
    backbone = source_of(params.name).build(params)
    backbone.network.eval().requires_grad_(False)
    return backbone


def build_embedding_network(
    params: BackboneParams, px: int | str, median_short_side_px: float
) -> tuple[BackboneFacts, EmbeddingNetwork]:
    """Build a backbone that returns the embeddings of its layers, on the CPU.

    Args:
        params: The section `backbone`.
        px: Side as in `transform.px`.
        median_short_side_px: Median of the shorter sides of all images.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built.
    """
    backbone = build_backbone(params)
    transform = backbone.facts.transform_for(px, median_short_side_px)
    return backbone.facts, EmbeddingNetwork(backbone.network, transform, params.layers, params.pooling).eval()


def build_bare(name: str, px: int) -> nn.Module:
    """Build a frozen backbone with random weights, to be replaced by those of a bundle.

    Args:
        name: Name as in `backbone.name`.
        px: Side of its pictures, in pixels.

    Returns:
        A network as `Backbone.network`, on the CPU, in eval mode, without gradients.

    Raises:
        BackboneError: The name is unknown.
    """
    return source_of(name).build_bare(name, px).eval().requires_grad_(False)
