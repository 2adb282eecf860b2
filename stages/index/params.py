"""What room `index` reads from params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from stages.core.params import RoomParams, Section
from stages.core.sections import DataParams, RuntimeParams


class IndexParams(Section):
    """`index:` which files are images."""

    extensions: Annotated[list[Annotated[str, Field(pattern=r"^[a-z0-9]+$")]], Field(min_length=1)]
    max_pixels: Annotated[int, Field(ge=1)]
    on_bad: Literal["quarantine", "fail"]
    max_bad_fraction: Annotated[float, Field(ge=0, le=1)]
    max_removed_fraction: Annotated[float, Field(ge=0, le=1)]
    table: Annotated[str, Field(pattern=r"(?i)^[^/].*\.(csv|parquet)$")] | None


class Params(RoomParams):
    """The sections of this room."""

    data: DataParams
    index: IndexParams
    runtime: RuntimeParams
