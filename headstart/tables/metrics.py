"""Metrics: small JSON files of numbers. DVC shows some of them, and other stages read them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.base.errors import TableError
from headstart.base.files import write_json
from headstart.base.kept import try_to_write
from headstart.base.machine import cache_folder


def write_metrics(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write numbers by name, with floats rounded to 6 decimals. Equal numbers give equal bytes.

    The names have no prefix, so `dvc metrics show` has one row for each file and one column for each name. DVC does not
    show lists.

    Args:
        path: JSON file to write.
        numbers: Numbers, words, or lists of these, by name.
    """
    rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in numbers.items()}
    write_json(path, rounded)


def write_timings(stage: str, numbers: Mapping[str, Any]) -> None:
    """Write the timings of a stage into the project's cache. They are no result: if that fails, it is only said.

    Args:
        stage: Name of the stage, which is that of the file.
        numbers: As for `write_metrics`.
    """
    path = cache_folder() / "timings" / f"{stage}.json"
    try_to_write(path, lambda: write_metrics(path, numbers), stage)


def read_metrics(path: Path, *names: str) -> dict[str, Any]:
    """Read a file that `write_metrics` wrote.

    Args:
        path: JSON file to read.
        names: Names that the file must contain, each with a number or a word.

    Returns:
        Everything in the file, by name.

    Raises:
        TableError: The file is missing, is not a JSON object, or lacks one of the names.
    """
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TableError(f"{path}: is missing. Run: dvc repro") from error
    except ValueError as error:
        raise TableError(f"{path}: is not JSON ({error}). Run: dvc repro") from error
    if not isinstance(numbers, dict):
        raise TableError(f"{path}: found {type(numbers).__name__}; expected {{name: number}}. Run: dvc repro")
    missing = [name for name in names if not isinstance(numbers.get(name), int | float | str)]
    if missing:
        raise TableError(f"{path}: has no {', '.join(missing)}; found {sorted(numbers)}. Run: dvc repro")
    return numbers
