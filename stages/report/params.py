"""The sections of params.yaml that stage `report` reads."""

from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from headstart.base.machine import RuntimeParams
from headstart.base.params import Name, Section
from headstart.sources.params import DataParams
from stages.params import UNTRACKED, StageParams


class ReportParams(Section):
    """`report:` the page."""

    title: Name
    gallery_images: Annotated[int, Field(ge=10, le=2000)]
    thumbnail_px: Annotated[int, Field(ge=32, le=256)]


class Params(StageParams):
    """The sections that this stage uses."""

    data: DataParams
    report: ReportParams
    runtime: RuntimeParams

    @classmethod
    def tracked(cls, sections: Collection[str]) -> set[str]:
        """Return all sections but `runtime`, because the page shows them."""
        return set(sections) - UNTRACKED
