"""Rows: tables in CSV files, whose columns are the fields of a dataclass."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from headstart.base.csv_files import read_table, write_table
from headstart.base.errors import TableError


@dataclass(frozen=True)
class Row:
    """Base class of the rows of a table. A subclass is a frozen dataclass, whose fields are the columns, in order.

    A field is a `str`, `int` or `float`, or one of the latter two or None.

    Attributes:
        repro: Name of the stage that writes the table.
    """

    repro: ClassVar[str]

    @classmethod
    def problem(cls, rows: Sequence[Self]) -> str:  # noqa: ARG003 - subclasses use it
        """Return what is wrong with a table, beyond the types of its cells; empty if nothing is."""
        return ""


R = TypeVar("R", bound=Row)


def write_rows(path: Path, rows: Iterable[R], kind: type[R]) -> None:
    """Write a table as a CSV file. Equal rows give equal bytes.

    Args:
        path: Path of the file.
        rows: Rows of the table. Floats are rounded to six significant digits, and None becomes an empty cell.
        kind: Class of the rows.
    """
    columns = [field.name for field in fields(kind)]
    lines: Iterable[Iterable[object]] = map(attrgetter(*columns), rows)
    if not {field.type for field in fields(kind)} <= {str, int}:
        lines = (map(_cell, line) for line in lines)
    write_table(path, columns, lines)


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """Read and check a table that `write_rows` wrote.

    Args:
        path: Path of the file.
        kind: Class of the rows.

    Raises:
        TableError: The file is missing, its columns are not exactly the fields of `kind`, a cell does not have the type
            of its column, or `kind.problem` finds something wrong.
    """
    remedy = f"Run: dvc repro {kind.repro}"
    return check_rows(*read_table(path, remedy), str(path), kind, remedy)


def check_rows(header: list[str], lines: Sequence[list[str]], name: str, kind: type[R], remedy: str) -> list[R]:
    """Return the lines of a table as rows.

    Args:
        header: Names of the columns.
        lines: Cells of each row.
        name: Name of the file, for messages.
        kind: Class of the rows.
        remedy: What the user can do about a bad file. Every message ends with it.

    Raises:
        TableError: As `read_rows`.
    """
    types = {field.name: field.type for field in fields(kind)}
    if header != list(types):
        raise TableError(f"{name}: columns are {header}; expected {list(types)}. {remedy}")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(kind(*(_value(cell, one) for cell, one in zip(line, types.values(), strict=True))))
        except ValueError as error:
            raise TableError(f"{name}: row {number} is {line}; expected {list(types)} ({error}). {remedy}") from error
    problem = kind.problem(rows)
    if problem:
        raise TableError(f"{name}: {problem}. {remedy}")
    return rows


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


def _value(cell: str, kind: object) -> int | float | str | None:
    if kind is str:
        return cell
    if kind is int:
        return int(cell)
    if not cell and kind is not float:
        return None
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(f"{cell} is not finite")
    return value
