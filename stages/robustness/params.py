"""The section `robustness` of params.yaml, and the other sections that the stage reads."""

from typing import Annotated

from pydantic import Field

from headstart.backbone.params import BackboneParams
from headstart.base.machine import RuntimeParams
from headstart.base.params import Section
from headstart.sources.params import DataParams
from stages.params import StageParams


class RobustnessParams(Section):
    """`robustness:` the check on shifted pictures."""

    num_images: Annotated[int, Field(ge=10, le=20_000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Params(StageParams):
    """The sections that this stage reads."""

    backbone: BackboneParams
    data: DataParams
    robustness: RobustnessParams
    runtime: RuntimeParams
