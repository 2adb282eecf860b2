"""torchvision as a source of backbones: its classifiers by name, with its published weights or a file.

torchvision is imported where it is used, because this takes seconds.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from torch import nn

from headstart.backbone.params import BackboneParams
from headstart.backbone.source import Backbone, load_tensors
from headstart.backbone.spec import BackboneFacts
from headstart.backbone.weights import WeightsFile, cache_dir, file_weights, url_weights
from headstart.base.errors import BackboneError
from headstart.imaging.transform import Transform


class TorchvisionSource:
    """The classifiers of torchvision. See `Source`."""

    accepts_files = True

    def knows(self, name: str) -> bool:
        """See `Source`."""
        return name in self.names()

    def names(self) -> list[str]:
        """See `Source`."""
        from torchvision import models

        names: list[str] = models.list_models(module=models)
        return names

    def build(self, params: BackboneParams) -> Backbone:
        """See `Source`."""
        published = _choose_published(params)
        weights = file_weights(params) if params.weights_is_file else torchvision_weights(published.url)
        min_px = published.meta["min_size"][0]
        preset = published.transforms()
        if preset.crop_size[0] < min_px:
            raise BackboneError(f"{params.name}: {published} wants {preset.crop_size[0]} px but needs {min_px} px")
        network, classifier = _network_without_classifier(params.name, min_px)
        tensors = {
            # torchvision's DenseNet files are older than its code; torchvision renames them like this too.
            re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name): tensor
            for name, tensor in weights.read().items()
            if not name.startswith((classifier, "AuxLogits.", "aux1.", "aux2."))
        }
        load_tensors(network, tensors, params, weights)
        transform = Transform(
            resize_px=preset.resize_size[0],
            crop_px=preset.crop_size[0],
            squash=False,
            interpolation=preset.interpolation.value,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        )
        fixed_px = params.name.startswith(("vit_", "maxvit_"))
        return Backbone(BackboneFacts(params.name, weights.sha256, transform, min_px, fixed_px), network)

    def build_bare(self, name: str, px: int) -> nn.Module:
        """See `Source`."""
        network, _ = _network_without_classifier(name, px)
        return network

    def weights_setting(self, name: str, sha256: str) -> str:
        """See `Source`. The address of a file holds the start of its digest."""
        from torchvision import models

        published = models.get_model_weights(name)
        return next((member.name for member in published if f"-{sha256[:8]}." in member.url), "auto")


def torchvision_weights(url: str) -> WeightsFile:
    """Return the file of published torchvision weights, in the folder in which torchvision itself keeps it.

    Raises:
        BackboneError, DownloadError: As `url_weights`.
    """
    name = Path(urlsplit(url).path).name
    prefix = re.search(r"-([0-9a-f]{8,})\.", name)  # the name contains the first digits of the sha256
    return url_weights(url, cache_dir() / name, prefix[1] if prefix else "")


def remove_classifier(network: nn.Module) -> str:
    """Remove the last layer with weights, so that the network returns its input. Return the prefix of its tensors."""
    name, layer = [item for item in network.named_modules() if isinstance(item[1], nn.Linear | nn.Conv2d)][-1]
    if isinstance(layer, nn.Linear):
        network.set_submodule(name, nn.Identity())
    else:  # SqueezeNet classifies every place of the map, then averages: average the map instead
        network.set_submodule(name.rsplit(".", 1)[0], nn.AdaptiveAvgPool2d(1))
    return f"{name}."


def _choose_published(params: BackboneParams) -> Any:  # noqa: ANN401 - torchvision has no types
    """Return the member of torchvision's enum of weights: the one that was asked for, or the default."""
    from torchvision import models

    published = models.get_model_weights(params.name)
    if params.weights_is_file or params.weights == "auto":
        return published.DEFAULT  # a file has no transform of its own
    if params.weights in published.__members__:
        return published[params.weights]
    raise BackboneError(
        f"backbone.weights: found {params.weights!r}; expected auto, a file (.safetensors, .pth, .pt) "
        f"or one of {', '.join(published.__members__)}"
    )


def _network_without_classifier(name: str, px: int) -> tuple[nn.Module, str]:
    """Return a network with random weights, and the prefix of the names of the classifier's tensors."""
    from torchvision import models

    # The published weights were trained with these flags, which are not in the state dict (pytorch/vision#1709).
    flags: dict[str, Any] = {}
    if name in ("inception_v3", "googlenet"):
        flags = {"transform_input": True, "aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        flags = {"image_size": px}
    network = models.get_model(name, weights=None, **flags)
    return network, remove_classifier(network)
