"""What room `head` reads from params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from stages.core.params import RoomParams, Section

Strength = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HeadParams(Section):
    """`head:` the linear classifier."""

    c: Strength | Literal["auto"]
    c_grid: Annotated[list[Strength], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2, le=20)]
    max_iter: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Params(RoomParams):
    """The sections of this room."""

    head: HeadParams
