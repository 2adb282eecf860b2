"""What room `evaluate` reads from params.yaml: nothing yet, but the whole file is checked all the same."""

from stages.core.params import RoomParams


class Params(RoomParams):
    """The sections of this room."""
