"""Networks: the layers of a bundle with their weights, found by digest, up to the layer that its head reads."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from headstart.artifacts.bundle import Bundle
from headstart.backbone.build import TIMM_PREFIX, Backbone, build_backbone, build_bare
from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.params import WEIGHTS_SUFFIXES, BackboneParams
from headstart.backbone.spec import transform_of
from headstart.backbone.weights import PACKAGED, cache_dir
from headstart.base.errors import BackboneError, BundleError, DownloadError
from headstart.base.files import sha256_file


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
        network = find_backbone(spec, bundle.layer, weights).network
    else:
        try:
            network = build_bare(spec["backbone"], transform.crop_px)
            network.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in bundle.backbone.items()})
        except (BackboneError, RuntimeError, TypeError) as error:
            why = str(error).splitlines()[0]
            raise BundleError(f"the bundle's tensors do not fit {spec['backbone']}: {why}") from error
    try:
        return EmbeddingNetwork(network, transform, [bundle.layer], spec["pooling"]).eval()
    except BackboneError as error:
        raise BundleError(f"the bundle's network cannot be read at {bundle.layer!r}: {error}") from error


def find_backbone(spec: Mapping[str, Any], layer: str, given: Path | None) -> Backbone:
    """Build the backbone of a spec from weights with its digest, wherever they lie.

    Looked at: the file that is given, `weights/` of the working directory, the caches of torch and of the Hugging Face
    hub; then they are fetched from where the backbone's weights are published.

    Args:
        spec: Of the bundle.
        layer: That will be read.
        given: A file of weights.

    Raises:
        BundleError: None of them has that digest; says where the weights come from.
    """
    name, digest = spec["backbone"], spec["weights_sha256"]
    params = {"name": name, "layers": [layer], "pooling": spec["pooling"], "weights": "auto", "weights_sha256": None}
    if given is not None and not given.is_file():
        raise BundleError(f"{given}: there is no such file; expected the weights of {name} with sha256 {digest}")
    if given is not None and sha256_file(given) != digest:
        raise BundleError(f"{given}: is not the file that the bundle needs: the weights of {name} with sha256 {digest}")
    path = given or (None if name == PACKAGED else next(_with_digest(digest), None))
    if path is not None:
        params |= {"weights": str(path), "weights_sha256": digest}
    elif name != PACKAGED:
        params["weights"] = _published(name, digest)
    try:
        backbone = build_backbone(BackboneParams.model_validate(params))
    except (BackboneError, DownloadError) as error:
        raise BundleError(_missing(name, digest, str(error))) from error
    if backbone.facts.weights_sha256 != digest:
        found = f"what is published now has sha256 {backbone.facts.weights_sha256}"
        raise BundleError(_missing(name, digest, found))
    return backbone


def _with_digest(digest: str) -> Iterator[Path]:
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = [Path("weights"), cache_dir()]
    files = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    files += sorted(Path(HF_HUB_CACHE).glob("models--*/snapshots/*/*.safetensors"))
    for path in files:
        if path.suffix.lower() in WEIGHTS_SUFFIXES and path.is_file() and sha256_file(path) == digest:
            yield path


def _published(name: str, digest: str) -> str:
    """Return the name of the published weights whose address has the digest's beginning, else `auto`."""
    if name.startswith(TIMM_PREFIX):
        return "auto"
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        return "auto"
    members = torchvision.models.get_model_weights(name)
    return next((member.name for member in members if f"-{digest[:8]}." in member.url), "auto")


def _missing(name: str, digest: str, why: str) -> str:
    return (
        f"this bundle holds a head alone and needs the weights of {name} with sha256 {digest}, which were not found in "
        f"weights/ nor in the caches of torch and the Hugging Face hub, and {why} "
        "Name the file with --weights, or take a bundle that was written with --self-contained."
    )
