"""The sections `data` and `transform` of params.yaml."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from headstart.base.params import Section


class DataParams(Section):
    """`data:` which images."""

    path: str

    @field_validator("path")
    @classmethod
    def _is_a_folder_of_its_own(cls, path: str) -> str:
        if PurePosixPath(path) in {PurePosixPath("."), PurePosixPath("data")}:
            raise ValueError("a folder that holds nothing but the data set, such as data/my_photos")
        return path


class TransformParams(Section):
    """`transform:` how a picture becomes the network's input."""

    px: Annotated[int, Field(ge=16, le=2048)] | Literal["auto"]
    decode: Literal["scaled", "exact"]
