"""The sections of params.yaml that stage `compare` reads: none. The whole file is checked nevertheless."""

from stages.params import StageParams


class Params(StageParams):
    """The sections of this stage: none."""
