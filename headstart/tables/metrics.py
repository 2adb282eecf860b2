"""Metrics: small JSON files of numbers that DVC shows and other stages read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.base.errors import TableError
from headstart.base.files import write_json


def write_metrics(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write numbers by name, floats rounded to 6 digits; equal numbers give equal bytes.

    The names have no prefix: `dvc metrics show` then has one row for each file and one column for each name. DVC shows
    no lists.

    Args:
        path: JSON file.
        numbers: Numbers, words, or lists of these, by name.
    """
    rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in numbers.items()}
    write_json(path, rounded)


def read_metrics(path: Path, *names: str) -> dict[str, Any]:
    """Read what `write_metrics` wrote.

    Args:
        path: JSON file.
        names: Names that the file must hold, each with a number or a word.

    Raises:
        TableError: The file is missing, is not a table of numbers by name, or lacks a name.
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
