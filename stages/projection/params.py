"""The section `projection` of params.yaml."""

from typing import Annotated

from pydantic import Field

from headstart.base.params import Section
from stages.params import StageParams


class ProjectionParams(Section):
    """`projection:` the projection of the embeddings to two dimensions."""

    num_images: Annotated[int, Field(ge=10, le=20_000)]
    perplexity: Annotated[float, Field(ge=2, le=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Params(StageParams):
    """The sections that this stage reads."""

    projection: ProjectionParams
