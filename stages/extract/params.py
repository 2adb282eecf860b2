"""The section `extract` of params.yaml, and the other sections that the stage reads."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.backbone.params import BackboneParams
from headstart.base.machine import RuntimeParams
from headstart.base.params import Section
from headstart.imaging.params import TransformParams
from headstart.sources.params import DataParams
from stages.params import StageParams


class ExtractParams(Section):
    """`extract:` which embeddings of each image are kept, and how precisely."""

    views: Annotated[int, Field(ge=1, le=64)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    precision: Literal["float32", "float16"]


class Params(StageParams):
    """The sections that this stage reads."""

    data: DataParams
    backbone: BackboneParams
    transform: TransformParams
    extract: ExtractParams
    runtime: RuntimeParams
