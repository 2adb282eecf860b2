"""The sections of params.yaml that stage `report` reads."""

from typing import Annotated

from pydantic import Field

from headstart.base.machine import RuntimeParams
from headstart.base.params import Name, Section
from headstart.imaging.params import DataParams
from stages.params import StageParams


class ReportParams(Section):
    """`report:` the page."""

    title: Name
    gallery_images: Annotated[int, Field(ge=10, le=2000)]
    thumbnail_px: Annotated[int, Field(ge=32, le=256)]


class Params(StageParams):
    """The sections that this stage uses. The page shows all sections."""

    data: DataParams
    report: ReportParams
    runtime: RuntimeParams
