"""The params of the stages: each stage reads its sections, after all of params.yaml was checked."""

import importlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from headstart.base.params import Section, check_sections, read_yaml

PARAMS_PATH = Path("params.yaml")
UNTRACKED = {"runtime"}  # changes no result


class StageParams(BaseModel):
    """Base of a stage's `Params`: one field for each section of params.yaml that the stage reads.

    The stage in dvc.yaml lists exactly these sections under `params:`, except `runtime`.
    """

    model_config = ConfigDict(frozen=True)

    @classmethod
    def tracked(cls, sections: Collection[str]) -> set[str]:
        """Return the sections that DVC tracks for the stage, of all `sections` that params.yaml has."""
        return set(cls.model_fields) & set(sections) - UNTRACKED


P = TypeVar("P", bound=StageParams)


def load_params(wanted: type[P], path: Path = PARAMS_PATH) -> P:
    """Check all of params.yaml and return the sections that one stage reads.

    The sections of other stages are found by folder (`stages/*/params.py`), not imported by name. A mistake in them
    stops the run, but they never change its result, so no stage depends on another.

    Args:
        wanted: Class `Params` of the stage.
        path: Path of params.yaml, relative to the working directory.

    Raises:
        ParamsError: The file is missing, or a key of any section is unknown, missing or wrong. The message lists all.
    """
    checked = check_sections(path, all_sections())
    return wanted(**{name: checked[name] for name in wanted.model_fields})


def tracked_sections(path: Path = PARAMS_PATH) -> dict[str, dict[str, Any]]:
    """Return the sections of params.yaml that DVC tracks, unchecked, to be shown.

    Raises:
        ParamsError: The file is missing or is not a mapping in YAML.
    """
    return {name: section for name, section in read_yaml(path).items() if name not in UNTRACKED}


def all_sections() -> dict[str, type[Section]]:
    """Return the model of every section that some stage reads."""
    sections: dict[str, type[Section]] = {}
    for file in sorted(Path(__file__).parent.glob("*/params.py")):
        stage: type[StageParams] = importlib.import_module(f"stages.{file.parent.name}.params").Params
        for name, field in stage.model_fields.items():
            assert isinstance(field.annotation, type)
            assert issubclass(field.annotation, Section)
            sections[name] = field.annotation
    return sections
