"""params.yaml: it is read as DVC reads it, all of it is checked strictly, and one message lists all mistakes."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from headstart.base.errors import ParamsError
from headstart.base.files import read_bytes

Name = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# DVC drops these names, at any depth, from its run-cache key and then restores stale outputs (treeverse/dvc#10296).
FORBIDDEN_KEYS = frozenset({"size", "nfiles"})
# Keys of an earlier edition of params.yaml, with their present names.
RENAMED_KEYS = {"taps": "layers"}


class Section(BaseModel):
    """Base of every section of params.yaml: immutable, no unknown keys, no coercion of types, no defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


S = TypeVar("S", bound=Section)


def check_sections(path: Path, sections: Mapping[str, type[Section]]) -> dict[str, Section]:
    """Read a params file and check all of it.

    Args:
        path: Path of the file.
        sections: Model of each section, by name. The file must have these sections and no others.

    Returns:
        The sections by name.

    Raises:
        ParamsError: The file cannot be read, or any key of any section is unknown, missing, of the wrong type, out of
            range or forbidden. The message lists them all.
    """
    raw = read_yaml(path)
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
            problems += explain(name, model, raw.get(name, {}), error)
    if problems:
        raise ParamsError(f"{path}: {len(problems)} bad key(s)\n" + "\n".join(f"  {problem}" for problem in problems))
    return checked


def read_section(path: Path, name: str, model: type[S]) -> S:
    """Read one section of a params file, and check no other.

    Args:
        path: Path of the file.
        name: Name of the section.
        model: Model of the section.

    Raises:
        ParamsError: The file cannot be read, or a key of the section is unknown, missing, of the wrong type or out of
            range. The message lists them all.
    """
    raw = read_yaml(path).get(name, {})
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(f"{path}: {'; '.join(explain(name, model, raw, error))}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the sections of a params file by name, unchecked.

    Raises:
        ParamsError: The file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        return parse_yaml(path, read_bytes(path))
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}). Run from the project's root folder.") from error


def parse_yaml(path: Path, content: bytes) -> dict[str, Any]:
    """Return the sections of a params file by name, unchecked, from its content.

    Raises:
        ParamsError: The content is not YAML, or is not a mapping.
    """
    try:
        # ruamel is DVC's own reader: for PyYAML (YAML 1.1) `1e-3` is a string and `no` is false.
        raw = YAML(typ="safe").load(content.decode("utf-8"))
        json.dumps(raw, default=str, skipkeys=True)  # raises ValueError for a value that holds itself
    # ValueError: also an integer of thousands of digits. RecursionError: thousands of lists in each other.
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ParamsError(f"{path}: expected sections (`name:` and keys below); found {type(raw).__name__}")
    return {str(name): section for name, section in raw.items()}


def _forbidden(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            inner_path = f"{path}.{key}" if path else str(key)
            if key in FORBIDDEN_KEYS:
                yield inner_path, "expected another name; DVC ignores changes of keys called `size` or `nfiles`"
            yield from _forbidden(inner, inner_path)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _forbidden(inner, f"{path}.{position}")


def explain(name: str, model: type[Section], raw: object, error: ValidationError) -> list[str]:
    """Return one line for each wrong key of a section: its path, what was expected and what was found.

    Args:
        name: Name of the section.
        model: Model of the section.
        raw: Content of the section, as `read_yaml` returns it.
        error: Error of the model for this content.
    """
    expected: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    unknown: list[str] = []
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
                unknown.append(f"{place}: unknown key{_hint(keys[-1], model.model_fields)}")
                continue
            case "model_type":
                text, seen = "keys below it", repr(value)
            case "value_error":  # from a validator of ours; that of a whole section says itself what it found
                text, _, seen = str(item["ctx"]["error"]).partition("; found ")
                seen = seen or (repr(value) if keys else "")
            case _:
                text, seen = item["msg"].removeprefix("Input should be "), repr(value)
        expected.setdefault(place, []).append(text)
        found[place] = f"; found {seen}" if seen else ""
    wrong = [f"{place}: expected {' or '.join(texts)}{found[place]}" for place, texts in expected.items()]
    return [*wrong, *unknown]


def _hint(key: str, known: Iterable[str]) -> str:
    if key in RENAMED_KEYS:
        return f" (this key is now called {RENAMED_KEYS[key]!r}: rename it in the file)"
    return _near(key, known)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
