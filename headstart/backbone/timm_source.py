"""timm as a source of backbones: `timm/<name>`, with weights from the Hugging Face hub or a file.

timm is imported where it is used, because this takes seconds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from headstart.backbone.packaged import NEEDS_NO_DOWNLOAD
from headstart.backbone.params import BackboneParams
from headstart.backbone.source import Backbone, misfit
from headstart.backbone.spec import BackboneFacts
from headstart.backbone.weights import WeightsFile, file_weights
from headstart.base.errors import BackboneError, DownloadError
from headstart.base.files import sha256_file
from headstart.imaging.transform import Transform

TIMM_PREFIX = "timm/"
_MIN_PX = 32  # of networks for which timm gives no smallest side


class TimmSource:
    """The networks of timm. See `Source`."""

    accepts_files = True

    def knows(self, name: str) -> bool:
        """See `Source`."""
        if not name.startswith(TIMM_PREFIX):
            return False
        import timm

        known: bool = timm.is_model(name.removeprefix(TIMM_PREFIX))
        return known

    def names(self) -> list[str]:
        """See `Source`."""
        import timm

        return [TIMM_PREFIX + name for name in timm.list_models()]

    def build(self, params: BackboneParams) -> Backbone:
        """See `Source`."""
        import timm

        architecture = params.name.removeprefix(TIMM_PREFIX)
        weights = _find_weights(params, architecture)
        try:
            # timm's own loader with our tensors: it drops the classifier and translates old layouts.
            network: Any = timm.create_model(
                architecture, pretrained=True, num_classes=0, pretrained_cfg_overlay={"state_dict": weights.read()}
            )
        except (RuntimeError, KeyError) as error:
            raise misfit(params, weights, str(error)) from error
        config = network.pretrained_cfg
        min_px = (config.get("min_input_size") or (3, _MIN_PX, _MIN_PX))[-1]
        fixed_px = bool(config.get("fixed_input_size"))
        facts = BackboneFacts(params.name, weights.sha256, timm_transform(config), min_px, fixed_px)
        return Backbone(facts, network)

    def build_bare(self, name: str, px: int) -> nn.Module:  # noqa: ARG002 - timm's own side
        """See `Source`."""
        import timm

        network: nn.Module = timm.create_model(name.removeprefix(TIMM_PREFIX), pretrained=False, num_classes=0)
        return network

    def weights_setting(self, name: str, sha256: str) -> str:  # noqa: ARG002 - each name has one file
        """See `Source`."""
        return "auto"


def timm_transform(config: Mapping[str, Any]) -> Transform:
    """Return the transform of a network of timm, from its `pretrained_cfg`.

    Raises:
        BackboneError: The network takes pictures that are not square, or cropped in an unknown way.
    """
    _, height_px, crop_px = config["input_size"]
    if config["crop_mode"] not in ("center", "squash") or height_px != crop_px:
        raise BackboneError(
            f"{TIMM_PREFIX}{config['architecture']}: wants {height_px} x {crop_px} px, crop mode "
            f"{config['crop_mode']!r}; expected a square, center or squash"
        )
    return Transform(
        resize_px=int(crop_px / config["crop_pct"]),
        crop_px=crop_px,
        squash=config["crop_mode"] == "squash",
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def hub_weights(repo: str, filename: str = "model.safetensors") -> WeightsFile:
    """Return a file of a Hugging Face repository, from the local cache or the network.

    Raises:
        DownloadError: The file is not in the cache and cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(repo, filename))
    except Exception as error:  # the hub's client passes on errors of the HTTP library below it
        raise DownloadError(
            f"https://huggingface.co/{repo}/resolve/main/{filename}: cannot be fetched ({str(error).splitlines()[0]}). "
            "Fetch it by hand to any path, then set backbone.weights to that path and backbone.weights_sha256. "
            f"{NEEDS_NO_DOWNLOAD}"
        ) from error
    return WeightsFile(path, sha256_file(path))


def _find_weights(params: BackboneParams, architecture: str) -> WeightsFile:
    import timm

    if params.weights_is_file:
        return file_weights(params)
    if params.weights != "auto":
        raise BackboneError(
            f"backbone.weights: found {params.weights!r}; expected auto or a file for timm models. "
            "Other published weights are part of timm's names, such as timm/resnet50.a1_in1k"
        )
    published = timm.get_pretrained_cfg(architecture)
    if published is None or not published.hf_hub_id:
        raise BackboneError(f"{params.name}: timm publishes no weights for it; name a file in backbone.weights")
    return hub_weights(published.hf_hub_id)
