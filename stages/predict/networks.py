"""Networks: the layers of a bundle, with their weights, up to the tap that its head reads."""

from pathlib import Path

import torch

from stages.core.backbones import build_bare
from stages.core.bundle import Bundle
from stages.core.errors import BackboneError, BundleError
from stages.core.specs import transform_of
from stages.core.taps import EmbeddingNetwork
from stages.predict.finding import find_backbone


def build_network(bundle: Bundle, weights: Path | None) -> EmbeddingNetwork:
    """Build the network that the bundle's head reads, on the CPU.

    Args:
        bundle: With its own tensors, or of a head alone.
        weights: File of the backbone's weights, where it is known.

    Raises:
        BundleError: Weights that are not there or do not fit.
    """
    spec, transform = bundle.spec, transform_of(bundle.spec)
    if not bundle.backbone:
        network = find_backbone(spec, bundle.tap, weights).network
    else:
        try:
            network = build_bare(spec["backbone"], transform.crop_px)
            network.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in bundle.backbone.items()})
        except (BackboneError, RuntimeError, TypeError) as error:
            why = str(error).splitlines()[0]
            raise BundleError(f"the bundle's tensors do not fit {spec['backbone']}: {why}") from error
    try:
        return EmbeddingNetwork(network, transform, [bundle.tap], spec["pooling"]).eval()
    except BackboneError as error:
        raise BundleError(f"the bundle's network cannot be read at {bundle.tap!r}: {error}") from error
