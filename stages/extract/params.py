"""What room `extract` reads from params.yaml."""

from stages.core.params import RoomParams
from stages.core.sections import BackboneParams, DataParams, RuntimeParams, TransformParams


class Params(RoomParams):
    """The sections of this room."""

    data: DataParams
    backbone: BackboneParams
    transform: TransformParams
    runtime: RuntimeParams
