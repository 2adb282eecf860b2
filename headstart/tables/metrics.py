"""Metrics: small JSON files of numbers, one per producer, in git."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.base.errors import TableError
from headstart.base.files import write_json


def write_metrics(path: Path, prefix: str, numbers: Mapping[str, Any]) -> None:
    """Write a metrics file whose keys all begin with `prefix`, floats rounded to 6 digits. DVC does not show lists.

    The prefix keeps the columns of `dvc exp show` short: two files that share a key get the path in front of it.
    """
    rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in numbers.items()}
    write_json(path, {prefix: rounded})


def read_metrics(path: Path, prefix: str, *names: str) -> dict[str, Any]:
    """Read what `write_metrics` wrote.

    Args:
        path: Of the file.
        prefix: That it was written with.
        names: Of numbers (or words) that it must hold.

    Raises:
        TableError: The file is missing, is not what was written, or lacks a name.
    """
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))[prefix]
    except FileNotFoundError as error:
        raise TableError(f"{path}: is missing. Run: dvc repro") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f'{path}: expected {{"{prefix}": {{name: number}}}} ({error}). Run: dvc repro') from error
    if not isinstance(numbers, dict):
        raise TableError(f'{path}: expected {{"{prefix}": {{name: number}}}}. Run: dvc repro')
    missing = [name for name in names if not isinstance(numbers.get(name), int | float | str)]
    if missing:
        raise TableError(f"{path}: {prefix} has no {', '.join(missing)}; found {sorted(numbers)}. Run: dvc repro")
    return numbers
