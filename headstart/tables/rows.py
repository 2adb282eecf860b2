"""Rows: tables whose columns are the fields of a dataclass, written and read as CSV files without guessing."""

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
    """Base of the rows of a table: a frozen dataclass whose fields are the columns, in order.

    Attributes:
        repro: The stage that writes the table.
    """

    repro: ClassVar[str]

    @classmethod
    def problem(cls, rows: Sequence[Self]) -> str:  # noqa: ARG003 - for the tables that have such a rule
        """Return what is wrong with a table as a whole, which no single row shows; empty if nothing is."""
        return ""


R = TypeVar("R", bound=Row)


def write_rows(path: Path, rows: Iterable[R], kind: type[R]) -> None:
    """Write a table; equal rows give equal bytes. Floats have six significant digits; None is an empty cell."""
    columns = [field.name for field in fields(kind)]
    lines: Iterable[Iterable[object]] = map(attrgetter(*columns), rows)
    if not {field.type for field in fields(kind)} <= {str, int}:
        lines = (map(_cell, line) for line in lines)
    write_table(path, columns, lines)


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """Read a table that `write_rows` wrote.

    Raises:
        TableError: The file is missing, its columns are not exactly `kind`'s, or a cell is not what its column holds.
    """
    types = {field.name: field.type for field in fields(kind)}
    remedy = f"Run: dvc repro {kind.repro}"
    header, lines = read_table(path, remedy)
    if header != list(types):
        raise TableError(f"{path}: columns are {header}; expected {list(types)}. {remedy}")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(kind(*(_value(cell, one) for cell, one in zip(line, types.values(), strict=True))))
        except ValueError as error:
            raise TableError(f"{path}: row {number} is {line}; expected {list(types)} ({error}). {remedy}") from error
    problem = kind.problem(rows)
    if problem:
        raise TableError(f"{path}: {problem}. {remedy}")
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
