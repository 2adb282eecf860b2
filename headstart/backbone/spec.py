"""The spec: all that an embedding depends on besides the bytes of the image. This module imports no torch."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headstart.backbone.params import PoolingName
from headstart.base.errors import BackboneError
from headstart.imaging.decode import DECODE_POLICIES
from headstart.imaging.transform import Transform, View, choose_px, view_of


@dataclass(frozen=True)
class BackboneFacts:
    """What is known about a backbone without its tensors.

    Attributes:
        name: Name as in params.yaml.
        weights_sha256: sha256 of the weights file, 64 hex digits.
        transform: Transform that the weights expect, at the side at which they were trained or evaluated.
        min_px: Smallest side of a picture that the network takes, in pixels.
        fixed_px: Whether the network takes pictures of the transform's side only.
    """

    name: str
    weights_sha256: str
    transform: Transform
    min_px: int
    fixed_px: bool

    def transform_for(self, px: int | str, median_short_side_px: float) -> Transform:
        """Return the transform at the side that `transform.px` asks for.

        Args:
            px: Side in pixels, or `auto` (see `choose_px`).
            median_short_side_px: Median of the shorter sides of all images.

        Raises:
            BackboneError: The network does not take pictures of this side.
        """
        native_px = self.transform.crop_px
        if px == "auto":
            chosen = native_px if self.fixed_px else choose_px(native_px, self.min_px, median_short_side_px)
        else:
            chosen = int(px)
        if self.fixed_px and chosen != native_px:
            raise BackboneError(f"transform.px: found {chosen}; {self.name} takes {native_px} only (or auto)")
        if chosen < self.min_px:
            raise BackboneError(f"transform.px: found {chosen}; {self.name} needs at least {self.min_px}")
        return self.transform.at(chosen)

    def to_json(self) -> dict[str, Any]:
        """Return the facts as values that JSON can hold."""
        return asdict(self) | {"transform": _transform_spec(self.transform)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "BackboneFacts":
        """Return the facts from what `to_json` returned."""
        return cls(**{**content, "transform": transform_of(content)})


def make_spec(
    facts: BackboneFacts,
    transform: Transform,
    layers: Sequence[str],
    *,
    pooling: str,
    views: Sequence[View],
    precision: str,
    decode: str,
) -> dict[str, Any]:
    """Return the spec as values that JSON can hold. Device, engine, batch and workers are no part of it.

    Args:
        facts: Facts of the backbone.
        transform: The transform at the side that is used.
        layers: Names of the layers, without `auto`, in the order of the network.
        pooling: Name of an entry of `POOLINGS`.
        views: Views of each image.
        precision: Type of the stored numbers, `float32` or `float16`.
        decode: A key of `DECODE_POLICIES`.
    """
    return {
        "backbone": facts.name,
        "weights_sha256": facts.weights_sha256,
        "transform": _transform_spec(transform),
        "decode": DECODE_POLICIES[decode],
        "layers": list(layers),
        "pooling": pooling,
        "views": [view.spec() for view in views],
        "precision": precision,
    }


def find_problem(spec: Mapping[str, Any]) -> str:
    """Return what is wrong with a spec that was read from a file; an empty string if nothing is wrong."""
    try:
        transform = _Spec.model_validate_json(json.dumps(spec)).transform
    except ValidationError as error:
        first = error.errors()[0]
        return f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']}; found {first['input']!r:.80}"
    if not (1 <= transform.crop_px <= transform.resize_px and all(0 < value < math.inf for value in transform.std)):
        return f"spec.transform: found {transform}; expected 1 <= crop_px <= resize_px and std above 0"
    return ""


class _Spec(BaseModel):
    """The form of what `make_spec` returns."""

    model_config = ConfigDict(extra="forbid", strict=True)
    backbone: str
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    transform: Transform
    decode: str
    layers: Annotated[list[str], Field(min_length=1)]
    pooling: PoolingName
    views: Annotated[list[View], Field(min_length=1)]
    precision: Literal["float32", "float16"]


def transform_of(spec: Mapping[str, Any]) -> Transform:
    """Return the transform of a spec."""
    content = spec["transform"]
    return Transform(**{**content, "mean": tuple(content["mean"]), "std": tuple(content["std"])})


def is_scaled(spec: Mapping[str, Any]) -> bool:
    """Return whether large pictures are reduced when they are decoded. Specs of earlier versions say no."""
    return bool(spec["decode"] == DECODE_POLICIES["scaled"])


def min_side_px_of(spec: Mapping[str, Any]) -> int | None:
    """Return the pixels that the shorter side of a picture keeps for the views of a spec; None if it keeps all."""
    transform = transform_of(spec)
    return max(view_of(view).min_side_px(transform) for view in spec["views"]) if is_scaled(spec) else None


def _transform_spec(transform: Transform) -> dict[str, Any]:
    return asdict(transform) | {"mean": list(transform.mean), "std": list(transform.std)}
