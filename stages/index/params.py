"""The sections of params.yaml that the stage `index` reads."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from headstart.base.machine import RuntimeParams
from headstart.base.params import Section
from headstart.imaging.formats import known_extensions
from headstart.sources.params import DataParams
from stages.index.label_table import READERS
from stages.params import StageParams


class IndexParams(Section):
    """`index:` which files are images."""

    extensions: Annotated[list[Annotated[str, Field(pattern=r"^[a-z0-9]+$")]], Field(min_length=1)]
    max_pixels: Annotated[int, Field(ge=1)]
    max_seconds: Annotated[float, Field(gt=0, le=3600)]
    on_bad: Literal["quarantine", "fail"]
    max_bad_fraction: Annotated[float, Field(ge=0, le=1)]
    max_removed_fraction: Annotated[float, Field(ge=0, le=1)]
    table: Annotated[str, Field(min_length=1)] | None

    @field_validator("extensions")
    @classmethod
    def _are_known(cls, extensions: list[str]) -> list[str]:
        unknown = sorted(set(extensions) - set(known_extensions()))
        if unknown:
            raise ValueError(f"extensions of image formats ({', '.join(known_extensions())}); found {unknown}")
        return extensions

    @field_validator("table")
    @classmethod
    def _is_a_table_in_the_data_set(cls, table: str | None) -> str | None:
        path = PurePosixPath(table or "")
        if table is not None and path.suffix.lower() not in READERS:
            raise ValueError(f"a path that ends in {' or '.join(READERS)}; found {table!r}")
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("a path below data.path, where DVC notices an edit")
        return table


class Params(StageParams):
    """The sections that this stage reads."""

    data: DataParams
    index: IndexParams
    runtime: RuntimeParams
