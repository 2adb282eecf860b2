"""The lock: what each stage read and wrote when it last ran, from dvc.lock."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from headstart.base.errors import DataError, ParamsError
from headstart.base.params import parse_yaml

LOCK = "dvc.lock"


class LockedFile(BaseModel):
    """A file or folder: its path, md5 and bytes."""

    path: str
    md5: str = Field("", pattern=r"^[0-9a-f]{32}(\.dir)?$")  # it becomes part of a path
    size: int | None = None


class LockedStage(BaseModel):
    """What a stage read and wrote when it last ran."""

    deps: list[LockedFile] = []
    outs: list[LockedFile] = []
    params: dict[str, dict[str, Any]] = {}


class _Lock(BaseModel):
    stages: dict[str, LockedStage] = {}


Stages = Mapping[str, LockedStage]


def parse_lock(data: bytes) -> Stages:
    """Return the stages by name.

    Args:
        data: Bytes of a dvc.lock.

    Raises:
        DataError: They are not what DVC writes.
    """
    try:
        return _Lock.model_validate(parse_yaml(Path(LOCK), data)).stages
    except ParamsError as error:
        reason = str(error)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    raise DataError(f"{LOCK} is damaged ({reason}). Restore it: git checkout {LOCK}")
