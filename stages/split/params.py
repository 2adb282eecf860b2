"""What room `split` reads from params.yaml."""

from typing import Annotated

from pydantic import Field

from stages.core.params import RoomParams, Section


class SplitParams(Section):
    """`split:` which images are reported on."""

    test_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Params(RoomParams):
    """The sections of this room."""

    split: SplitParams
