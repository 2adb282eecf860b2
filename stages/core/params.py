"""params.yaml: read as DVC reads it, checked whole and strictly, all mistakes in one message."""

import difflib
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import ParamsError

PARAMS_PATH = Path("params.yaml")
# DVC drops these names, at any depth, from its run-cache key and then restores stale outputs (treeverse/dvc#10296).
FORBIDDEN_KEYS = frozenset({"size", "nfiles"})


class Section(BaseModel):
    """Base of every section of params.yaml: immutable, no unknown keys, no coercion of types, no defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RoomParams(BaseModel):
    """Base of a room's `Params`: one field per section of params.yaml that the room reads, of that section's model.

    The room's stage in dvc.yaml lists exactly these sections under `params:`, but for `runtime`.
    """

    model_config = ConfigDict(frozen=True)


P = TypeVar("P", bound=RoomParams)


def load_params(wanted: type[P], path: Path = PARAMS_PATH) -> P:
    """Check the whole of params.yaml and return the sections that one room reads.

    The sections of the other rooms are found by their folders (`stages/*/params.py`), not by an import, so no room
    depends on another: they can stop a run, never change its result.

    Args:
        wanted: The room's `Params`.
        path: The file, relative to the working directory.

    Raises:
        ParamsError: The file cannot be read, or any key of any section is unknown, missing, of the wrong type, out of
            range or forbidden. The message lists them all.
    """
    raw = _read_yaml(path)
    sections = _all_sections()
    problems = [f"{key}: {text}" for key, text in _forbidden(raw)]
    problems += [
        f"{name}: expected a section of this file ({', '.join(sections)}); found an unknown one{_near(name, sections)}"
        for name in raw
        if name not in sections
    ]
    checked: dict[str, Section] = {}
    for name, model in sections.items():
        try:
            checked[name] = model.model_validate(raw.get(name, {}))
        except ValidationError as error:
            problems += _explain(name, model, raw.get(name, {}), error)
    if problems:
        raise ParamsError(f"{path}: {len(problems)} bad key(s)\n" + "\n".join(f"  {problem}" for problem in problems))
    return wanted(**{name: checked[name] for name in wanted.model_fields})


def tracked_sections(path: Path = PARAMS_PATH) -> dict[str, dict[str, Any]]:
    """Return params.yaml as it stands, but for `runtime`, which changes no result: to be shown, not to be acted on."""
    return {name: section for name, section in _read_yaml(path).items() if name != "runtime"}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        # ruamel is DVC's own reader: for PyYAML (YAML 1.1) `1e-3` is a string and `no` is false.
        raw = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}). Run from the project's root folder.") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ParamsError(f"{path}: expected sections (`name:` and keys below); found {type(raw).__name__}")
    return {str(name): section for name, section in raw.items()}


def _all_sections() -> dict[str, type[Section]]:
    sections: dict[str, type[Section]] = {}
    for file in sorted(Path(__file__).parents[1].glob("*/params.py")):
        if file.parent.name != "core":
            room: type[RoomParams] = importlib.import_module(f"stages.{file.parent.name}.params").Params
            for name, field in room.model_fields.items():
                assert isinstance(field.annotation, type)
                assert issubclass(field.annotation, Section)
                sections[name] = field.annotation
    return sections


def _forbidden(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            inner_path = f"{path}.{key}" if path else str(key)
            if key in FORBIDDEN_KEYS:
                yield inner_path, "expected another name; DVC ignores keys called `size` or `nfiles` (stale results)"
            yield from _forbidden(inner, inner_path)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _forbidden(inner, f"{path}.{position}")


def _explain(name: str, model: type[Section], raw: object, error: ValidationError) -> list[str]:
    """One line per key: path, what was expected, what was found."""
    expected: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for item in error.errors():
        # A union adds its branches to the location, after the part that is a path into the file.
        keys: list[str] = []
        value: Any = raw
        for key in item["loc"]:
            if isinstance(value, dict) and (key in value or item["type"] == "missing"):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int):
                value = value[key]
            else:
                break
            keys.append(str(key))
        place = ".".join([name, *keys])
        if keys and keys[-1] in FORBIDDEN_KEYS:
            continue  # reported with its own reason
        match item["type"]:
            case "missing":
                text, seen = "a value", "nothing"
            case "extra_forbidden":
                text, seen = "no such key", f"{value!r}{_near(keys[-1], model.model_fields)}"
            case "value_error":  # of a whole section: what was found is not one value, but the error may name it
                text, _, seen = str(item["ctx"]["error"]).partition("; found ")
                seen = seen or (repr(value) if keys else "otherwise")
            case _:
                text, seen = item["msg"].removeprefix("Input should be "), repr(value)
        expected.setdefault(place, []).append(text)
        found[place] = seen
    return [f"{place}: expected {' or '.join(texts)}; found {found[place]}" for place, texts in expected.items()]


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
