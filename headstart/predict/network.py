"""The network of a bundle in torch, with the layers that the head reads and weights found by digest."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.artifacts.bundle import Bundle
from headstart.backbone.build import build_backbone, build_bare, source_of
from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.params import WEIGHTS_SUFFIXES, BackboneParams
from headstart.backbone.source import Backbone
from headstart.backbone.spec import transform_of
from headstart.backbone.weights import cache_dir
from headstart.base.errors import BackboneError, BundleError, DownloadError
from headstart.base.files import sha256_file


class LogitsNetwork(nn.Module):
    """A bundle's network with its head: from cropped images to calibrated logits and probabilities.

    Args:
        network: Network that gives the bundle's layers.
        bundle: Bundle that holds the head.
    """

    def __init__(self, network: EmbeddingNetwork, bundle: Bundle) -> None:
        super().__init__()
        self._network = network
        self._half = bundle.track == "head" and bundle.spec["precision"] == "float16"
        self._head = nn.Linear(bundle.weight.shape[1], len(bundle.classes))
        with torch.no_grad():
            self._head.weight.copy_(torch.from_numpy(bundle.weight / np.float32(bundle.temperature)))
            self._head.bias.copy_(torch.from_numpy(bundle.bias / np.float32(bundle.temperature)))

    def forward(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float32 (B, C) logits and probabilities of uint8 pixels (B, px, px, 3)."""
        rows = torch.cat(self._network(pixels_BHWC), dim=1)
        if self._half:  # round as the cache rounded the embeddings that the head was trained on
            rows = rows.half().float()
        logits = self._head(rows)
        return logits, logits.softmax(1)


def build_network(bundle: Bundle, weights: Path | None) -> EmbeddingNetwork:
    """Build the network that the bundle's head reads, on the CPU.

    Args:
        bundle: A bundle with the network's tensors, or with a head only.
        weights: Weights file of the backbone; None to find it by its digest.

    Raises:
        BundleError: Weights are missing or do not fit.
    """
    spec, transform = bundle.spec, transform_of(bundle.spec)
    if not bundle.backbone:
        network = find_backbone(spec, bundle.layers, weights).network
    else:
        try:
            network = build_bare(spec["backbone"], transform.crop_px)
            network.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in bundle.backbone.items()})
        except (BackboneError, RuntimeError, TypeError) as error:
            why = str(error).splitlines()[0]
            raise BundleError(f"the bundle's tensors do not fit {spec['backbone']}: {why}") from error
    try:
        return EmbeddingNetwork(network, transform, bundle.layers, spec["pooling"]).eval()
    except BackboneError as error:
        raise BundleError(f"the bundle's network cannot be read at {bundle.layers}: {error}") from error


def build_logits_network(bundle: Bundle, weights: Path | None) -> LogitsNetwork:
    """Build the bundle's network with its head, in eval mode, on the CPU; raises as `build_network`."""
    return LogitsNetwork(build_network(bundle, weights), bundle).eval()


def find_backbone(spec: Mapping[str, Any], layers: Sequence[str], given: Path | None) -> Backbone:
    """Build a spec's backbone from the weights that have the spec's digest.

    The weights are looked for in the given file, in `weights/` of the working directory, and in the caches of torch
    and of the Hugging Face hub. If none of them has the digest, they are downloaded from where they are published.

    Args:
        spec: Spec of the bundle.
        layers: Layers that will be read.
        given: Weights file; None to look for one.

    Raises:
        BundleError: No weights with that digest were found. The message says where they come from.
    """
    name, digest = spec["backbone"], spec["weights_sha256"]
    params = {
        "name": name,
        "layers": list(layers),
        "pooling": spec["pooling"],
        "weights": "auto",
        "weights_sha256": None,
    }
    if given is not None and not given.is_file():
        raise BundleError(f"{given}: there is no such file; expected the weights of {name} with sha256 {digest}")
    if given is not None and (found := sha256_file(given)) != digest:
        raise BundleError(f"{given}: has sha256 {found}; expected the weights of {name} with sha256 {digest}")
    try:
        source = source_of(name)
        path = given or (next(_local_files(digest), None) if source.accepts_files else None)
        if path is None:
            params["weights"] = source.weights_setting(name, digest)
        else:
            params |= {"weights": str(path), "weights_sha256": digest}
        backbone = build_backbone(BackboneParams.model_validate(params))
    except (BackboneError, DownloadError) as error:
        raise BundleError(_not_found(name, digest, str(error))) from error
    if backbone.facts.weights_sha256 != digest:
        reason = f"The weights that are published now have sha256 {backbone.facts.weights_sha256}."
        raise BundleError(_not_found(name, digest, reason))
    return backbone


def _local_files(digest: str) -> Iterator[Path]:
    """Give the weights files on this machine that have a digest."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = [Path("weights"), cache_dir()]
    files = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    files += sorted(Path(HF_HUB_CACHE).glob("models--*/snapshots/*/*.safetensors"))
    for path in files:
        if path.suffix.lower() in WEIGHTS_SUFFIXES and path.is_file() and sha256_file(path) == digest:
            yield path


def _not_found(name: str, digest: str, reason: str) -> str:
    return (
        f"this bundle holds only a head and needs the weights of {name} with sha256 {digest}. They are neither in "
        f"weights/ nor in the caches of torch and of the Hugging Face hub. {reason.rstrip('.')}. "
        "Name the file with --weights, or use a bundle that was exported with --self-contained."
    )
