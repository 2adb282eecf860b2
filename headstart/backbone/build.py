"""Backbones: pretrained networks without their classifier, frozen.

timm and torchvision are imported where they are used: each costs seconds.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.params import BackboneParams
from headstart.backbone.spec import BackboneFacts
from headstart.backbone.weights import (
    PACKAGED,
    WeightsFile,
    file_weights,
    hub_weights,
    packaged_weights,
    torchvision_weights,
)
from headstart.base.errors import BackboneError
from headstart.imaging.transform import Transform

TIMM_PREFIX = "timm/"


@dataclass(frozen=True)
class Backbone:
    """A frozen network that turns pictures into embeddings.

    Attributes:
        facts: What is known about it without its tensors.
        network: Network in eval mode without gradients. It turns float32 (B, 3, px, px) into float32 (B, dim), the
            input of its former classifier.
    """

    facts: BackboneFacts
    network: nn.Module


def build_backbone(params: BackboneParams) -> Backbone:
    """Find the weights, build the network, remove its classifier and freeze it. On the CPU.

    Raises:
        BackboneError: The name is unknown, or the weights do not fit.
        DownloadError: The weights cannot be fetched.
    """
    if params.name == PACKAGED:
        backbone = _build_packaged(params)
    elif params.name.startswith(TIMM_PREFIX):
        backbone = _build_timm(params)
    else:
        backbone = _build_torchvision(params)
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
    """Build a backbone without its classifier and with random weights, to be replaced by those of a bundle.

    Args:
        name: Name as in params.yaml.
        px: Side of its pictures, in pixels.

    Returns:
        A network as `Backbone.network`, on the CPU.

    Raises:
        BackboneError: The name is unknown.
    """
    if name == PACKAGED or name.startswith(TIMM_PREFIX):
        import timm

        architecture = f"tf_{PACKAGED}" if name == PACKAGED else name.removeprefix(TIMM_PREFIX)
        if not timm.is_model(architecture):
            raise _unknown(name, [TIMM_PREFIX + known for known in timm.list_models()])
        network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0)
    else:
        network, _ = _torchvision_network(name, px)
    return network.eval().requires_grad_(False)


def _build_packaged(params: BackboneParams) -> Backbone:
    if params.weights != "auto":
        raise BackboneError(
            f"backbone.weights: found {params.weights!r}; {PACKAGED} has its packaged weights only (auto). "
            f"For a file of your own: backbone.name={TIMM_PREFIX}tf_{PACKAGED}"
        )
    weights = packaged_weights()
    import timm

    network: Any = timm.create_model(f"tf_{PACKAGED}", pretrained=False)
    own, theirs = network.state_dict(), weights.read()
    # The same tensors in the same order under other names. The file is pinned by digest; this checks timm's side.
    if [name.rsplit(".")[-1] for name in own] != [name.rsplit(".")[-1] for name in theirs]:
        raise BackboneError(
            f"timm {timm.__version__}: tf_{PACKAGED} no longer has the packaged weights' order of tensors"
        )
    _load(network, dict(zip(own, theirs.values(), strict=True)), params, weights)
    network.reset_classifier(0)
    transform = _timm_transform(network.pretrained_cfg)
    return Backbone(BackboneFacts(params.name, weights.sha256, transform, 32, fixed_px=False), network)


def _build_timm(params: BackboneParams) -> Backbone:
    import timm

    architecture = params.name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(architecture):
        raise _unknown(params.name, [TIMM_PREFIX + name for name in timm.list_models()])
    if params.weights_is_file:
        weights = file_weights(params)
    elif params.weights == "auto":
        known = timm.get_pretrained_cfg(architecture)
        if known is None or not known.hf_hub_id:
            raise BackboneError(f"{params.name}: timm publishes no weights for it; name a file in backbone.weights")
        weights = hub_weights(known.hf_hub_id)
    else:
        raise BackboneError(
            f"backbone.weights: found {params.weights!r}; expected auto or a file for timm models. "
            "Other published weights are part of timm's names, such as timm/resnet50.a1_in1k"
        )
    try:
        # timm's own loader, with our tensors: it drops the classifier and translates old layouts.
        network: Any = timm.create_model(
            architecture, pretrained=True, num_classes=0, pretrained_cfg_overlay={"state_dict": weights.read()}
        )
    except (RuntimeError, KeyError) as error:
        raise _misfit(params, weights, str(error)) from error
    config = network.pretrained_cfg
    min_px = (config.get("min_input_size") or (3, 32, 32))[-1]
    fixed_px = bool(config.get("fixed_input_size"))
    facts = BackboneFacts(params.name, weights.sha256, _timm_transform(config), min_px, fixed_px)
    return Backbone(facts, network)


def _timm_transform(config: Mapping[str, Any]) -> Transform:
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


def _build_torchvision(params: BackboneParams) -> Backbone:
    import torchvision

    _check_torchvision_name(params.name)
    published = torchvision.models.get_model_weights(params.name)
    if params.weights_is_file or params.weights == "auto":
        member = published.DEFAULT  # a file has no transform of its own
    elif params.weights in published.__members__:
        member = published[params.weights]
    else:
        raise BackboneError(
            f"backbone.weights: found {params.weights!r}; expected auto, a file (.safetensors, .pth, .pt) "
            f"or one of {', '.join(published.__members__)}"
        )
    weights = file_weights(params) if params.weights_is_file else torchvision_weights(member.url)
    min_px = member.meta["min_size"][0]
    preset = member.transforms()
    if preset.crop_size[0] < min_px:
        raise BackboneError(f"{params.name}: {member} wants {preset.crop_size[0]} px but needs {min_px} px")
    network, removed = _torchvision_network(params.name, min_px)
    tensors = {
        # torchvision's DenseNet files are older than its code; torchvision renames them like this too.
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name): tensor
        for name, tensor in weights.read().items()
        if not name.startswith((removed, "AuxLogits.", "aux1.", "aux2."))
    }
    _load(network, tensors, params, weights)
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


def _torchvision_network(name: str, px: int) -> tuple[nn.Module, str]:
    """Return a network without its classifier, with random weights, and the prefix of the removed tensors' names."""
    import torchvision

    _check_torchvision_name(name)
    # The published weights were trained with these flags, which are not in the state dict (pytorch/vision#1709).
    flags: dict[str, Any] = {}
    if name in ("inception_v3", "googlenet"):
        flags = {"transform_input": True, "aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        flags = {"image_size": px}
    network = torchvision.models.get_model(name, weights=None, **flags)
    return network, _remove_classifier(network)


def _check_torchvision_name(name: str) -> None:
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise _unknown(name, [PACKAGED, *names])


def _remove_classifier(network: nn.Module) -> str:
    """Remove the last layer with weights, so that the network returns its input. Return the prefix of its tensors."""
    name, layer = [item for item in network.named_modules() if isinstance(item[1], nn.Linear | nn.Conv2d)][-1]
    if isinstance(layer, nn.Linear):
        network.set_submodule(name, nn.Identity())
    else:  # SqueezeNet classifies every place of the map, then averages: average the map instead
        network.set_submodule(name.rsplit(".", 1)[0], nn.AdaptiveAvgPool2d(1))
    return f"{name}."


def _load(
    network: nn.Module, tensors: Mapping[str, torch.Tensor], params: BackboneParams, weights: WeightsFile
) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise _misfit(params, weights, str(error)) from error


def _misfit(params: BackboneParams, weights: WeightsFile, why: str) -> BackboneError:
    lines = [line.strip() for line in why.splitlines()]
    text = " ".join(lines[:3])
    return BackboneError(f"{weights.path}: does not fit {params.name}: {text[:600]}")


def _unknown(name: str, known: list[str]) -> BackboneError:
    near = difflib.get_close_matches(name, known, n=5)
    hint = f"did you mean {', '.join(near)}?" if near else f"torchvision names or {TIMM_PREFIX}<name>"
    return BackboneError(f"backbone.name: {name!r} is not known; {hint} ({PACKAGED} needs no download)")
