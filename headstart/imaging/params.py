"""The section `transform` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.base.params import Section


class TransformParams(Section):
    """`transform:` how a picture becomes the network's input."""

    px: Annotated[int, Field(ge=16, le=2048)] | Literal["auto"]
    decode: Literal["scaled", "exact"]
