"""The section of params.yaml that stage `evaluate` reads: `intervals`."""

from typing import Annotated

from pydantic import Field

from headstart.base.params import Section
from stages.params import StageParams


class IntervalParams(Section):
    """`intervals:` how the bootstrap intervals of the scores are made."""

    resamples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Params(StageParams):
    """The sections of this stage."""

    intervals: IntervalParams
