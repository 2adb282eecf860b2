"""The user's table: a CSV or Parquet file with labels, and optionally splits and groups, instead of class folders."""

import difflib
import os
import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.base.csv_files import read_foreign_csv
from headstart.base.errors import DataError
from headstart.tables.index import LabelRow
from headstart.tables.names import SPLIT_NAMES

Table = tuple[Sequence[str], Mapping[int, Mapping[str, Any]]]
_NEEDED, _OPTIONAL = ("path", "label"), ("split", "group")
_IF_MISSING = "Correct index.table, which is a path relative to data.path."


def read_labels(root: Path, name: str) -> list[LabelRow]:
    """Read the columns `path` and `label`, and `split` and `group` if the table has them. Others are ignored.

    An image without a label has an empty cell. Its split may be empty too.

    In the table, paths are relative to the folder of the table. A backslash separates folders, as on Windows, where
    the file is found so and not by its literal name. Splits are train, val (or valid, validation) or test, in upper or
    lower case.

    Args:
        root: Folder of the data set.
        name: Path of the table below this folder.

    Returns:
        One row for each row of the table, sorted by path. The paths are relative to the data set's folder.

    Raises:
        DataError: The table has an unknown suffix, cannot be read or has no rows, a column or cell is missing or
            wrong, or a path is listed twice or lies outside the data set.
    """
    table = root / name
    reader = READERS.get(table.suffix.lower())
    if reader is None:
        raise DataError(f"{table}: the suffix is {table.suffix!r}; expected one of {list(READERS)}. Convert the table.")
    columns, rows = reader(table)
    _check_columns(table, columns)
    if not rows:
        raise DataError(f"{table}: has no rows; expected one for each image")
    used = [column for column in (*_NEEDED, *_OPTIONAL) if column in columns]
    found: dict[str, LabelRow] = {}
    for number, row in rows.items():
        cells = {column: _text(row[column]) for column in used}
        may_be_empty = ("label", "split") if row["label"] in (None, "") else ()
        empty = [column for column in used if not cells[column] and column not in may_be_empty]
        if empty:
            raise DataError(
                f"{table}: row {number}: {empty[0]} is {row[empty[0]]!r}; expected text or a whole number in each of "
                f"{used}. Fill the cell, or remove the {'row' if empty[0] in _NEEDED else f'column {empty[0]!r}'}."
            )
        path = _path_of(root, posixpath.dirname(name), cells["path"])
        if path.startswith(("../", "/")):
            raise DataError(
                f"{table}: row {number}: {cells['path']!r} is outside {root}; expected the path of an image below "
                "data.path, relative to the table"
            )
        if path in found:
            raise DataError(
                f"{table}: row {number}: {cells['path']!r} is listed twice; expected one row for each image. "
                "Remove one."
            )
        split = cells.get("split", "")
        if split and split.lower() not in SPLIT_NAMES:
            raise DataError(f"{table}: row {number}: split is {split!r}; expected one of {list(SPLIT_NAMES)}")
        found[path] = LabelRow(path, cells["label"], SPLIT_NAMES.get(split.lower(), ""), cells.get("group", ""))
    return [found[path] for path in sorted(found)]


def check_listed(rows: Sequence[LabelRow], known: Collection[str], table: Path) -> None:
    """Raise if the table lists files that do not exist.

    Args:
        rows: Rows of the table.
        known: Paths of all files of the data set.
        table: Path of the table, for the message.

    Raises:
        DataError: A row's path is not in `known`.
    """
    absent = [row.path for row in rows if row.path not in known]
    if absent:
        near = difflib.get_close_matches(absent[0], sorted(known)[:10_000], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(
            f"{table}: {len(absent)} of {len(rows)} images do not exist, the first {absent[0]!r}{hint}. Correct the "
            "paths, which are relative to the table, or remove the rows."
        )


def _read_csv(table: Path) -> Table:
    header, lines = read_foreign_csv(table, _IF_MISSING)
    if len(set(header)) < len(header):
        raise DataError(f"{table}: columns are {header}; expected each once. Rename or remove one.")
    return header, {number: dict(zip(header, line, strict=True)) for number, line in lines.items()}


def _read_parquet(table: Path) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        columns = parquet.read_schema(table).names
        if len(set(columns)) < len(columns):
            raise DataError(f"{table}: columns are {columns}; expected each once. Rename or remove one.")
        used = [name for name in (*_NEEDED, *_OPTIONAL) if name in columns]
        return columns, dict(enumerate(parquet.read_table(table, columns=used).to_pylist(), start=1))
    except FileNotFoundError as error:
        raise DataError(f"{table}: is missing. {_IF_MISSING}") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{table}: is not a Parquet file ({error})") from error


# To read another kind of table, add its reader here; index.table then accepts its suffix. A reader returns the columns
# and the rows by their number, for messages. Each row has a value for every column, which is None for an empty cell. A
# reader raises DataError for a bad file.
READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".tsv": _read_csv,
}


def _check_columns(table: Path, columns: Sequence[str]) -> None:
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise DataError(
            f"{table}: columns are {list(columns)}; expected `path` and `label`, and optionally `split` and `group`. "
            "Add or rename columns."
        )
    for name in _OPTIONAL:
        near = [other for other in columns if difflib.get_close_matches(other.lower(), [name], cutoff=0.8)]
        if name not in columns and near:
            raise DataError(
                f"{table}: has a column {near[0]!r}; expected {name!r}. Rename the column; if it means something "
                "else, give it a less similar name."
            )


def _path_of(root: Path, folder: str, cell: str) -> str:
    """Return the path below the data set's folder that a cell of a table in `folder` means."""
    path = posixpath.normpath(posixpath.join(folder, cell))
    if "\\" in cell and not os.path.lexists(root / path):
        other = posixpath.normpath(posixpath.join(folder, cell.replace("\\", "/")))
        return other if os.path.lexists(root / other) else path
    return path


def _text(cell: object) -> str:
    """Return text or a whole number as text, and any other cell, such as 1.5 or None, as an empty string."""
    if isinstance(cell, str):
        return cell
    return str(cell) if isinstance(cell, int) and not isinstance(cell, bool) else ""
