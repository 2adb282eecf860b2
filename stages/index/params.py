"""What room `index` reads from params.yaml."""

from typing import Annotated

from pydantic import Field

from stages.core.params import RoomParams, Section
from stages.core.sections import DataParams, RuntimeParams


class IndexParams(Section):
    """`index:` which files are images."""

    extensions: Annotated[list[Annotated[str, Field(pattern=r"^[a-z0-9]+$")]], Field(min_length=1)]
    max_pixels: Annotated[int, Field(ge=1)]
    max_removed_fraction: Annotated[float, Field(ge=0, le=1)]


class Params(RoomParams):
    """The sections of this room."""

    data: DataParams
    index: IndexParams
    runtime: RuntimeParams
