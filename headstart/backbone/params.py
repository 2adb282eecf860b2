"""The section `backbone` of params.yaml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from headstart.backbone.pooling import POOLINGS
from headstart.base.params import Section

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt")


def _has_an_entry(name: str) -> str:
    if name not in POOLINGS:
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, POOLINGS))})
    return name


PoolingName = Annotated[str, AfterValidator(_has_an_entry)]


class BackboneParams(Section):
    """`backbone:` which pretrained network."""

    name: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    layers: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | Literal["auto"]
    pooling: PoolingName

    @property
    def weights_is_file(self) -> bool:
        """Whether `weights` is a path or an address, not the name of published weights."""
        return "://" in self.weights or self.weights.lower().endswith(WEIGHTS_SUFFIXES)

    @model_validator(mode="after")
    def _file_has_digest(self) -> "BackboneParams":
        if self.weights_is_file and self.weights_sha256 is None:
            raise ValueError(
                "weights_sha256 if weights are a file, because DVC sees params.yaml and not the file "
                f"(`sha256sum {self.weights}` prints it)"
            )
        if not self.weights_is_file and self.weights_sha256 is not None:
            raise ValueError("weights_sha256 only if weights are a file; otherwise null")
        return self
