"""What room `compare` reads from params.yaml: nothing of its own, but the whole file is checked all the same."""

from stages.core.params import RoomParams


class Params(RoomParams):
    """The sections of this room."""
