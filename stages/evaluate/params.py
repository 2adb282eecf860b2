"""The section `intervals` of params.yaml: all that the stage reads."""

from typing import Annotated

from pydantic import Field

from headstart.base.params import Section
from stages.params import StageParams


class IntervalParams(Section):
    """`intervals:` the intervals of scores."""

    resamples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Params(StageParams):
    """The sections of this stage."""

    intervals: IntervalParams
