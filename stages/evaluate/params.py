"""What room `evaluate` reads from params.yaml."""

from stages.core.params import RoomParams
from stages.core.sections import IntervalParams


class Params(RoomParams):
    """The sections of this room."""

    intervals: IntervalParams
