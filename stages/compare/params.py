"""What stage `compare` reads from params.yaml: nothing of its own, but the whole file is checked all the same."""

from stages.params import StageParams


class Params(StageParams):
    """The sections of this stage: none."""
