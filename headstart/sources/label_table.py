"""The table: labels, and maybe splits and groups, from a CSV or Parquet file of the user's in place of folders."""

import difflib
import posixpath
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from headstart.base.csv_files import read_foreign_csv
from headstart.base.errors import DataError
from headstart.tables.index import LabelRow
from headstart.tables.names import SPLIT_NAMES

_NEEDED, _OPTIONAL = ("path", "label"), ("split", "group")
_ABSENT = "index.table, a path relative to data.path"


def read_labels(root: Path, name: str) -> list[LabelRow]:
    """Read the columns `path`, `label` and, if they are there, `split` and `group`; others are left alone.

    Paths are relative to the table. Splits are train, val (valid, validation) or test, in any case.

    Args:
        root: The data set's folder.
        name: The table's path below it.

    Returns:
        A row for every line, by path, which is relative to the data set's folder now.

    Raises:
        DataError: The table has an unknown suffix or cannot be read, a column or a cell is missing, or a path is there
            twice or is outside.
    """
    table = root / name
    reader = READERS.get(table.suffix.lower())
    if reader is None:
        raise DataError(f"{table}: the suffix is {table.suffix!r}; expected one of {list(READERS)}")
    columns, rows = reader(table)
    _check_columns(table, columns)
    if not rows:
        raise DataError(f"{table}: has no rows; expected one per image")
    used = [column for column in (*_NEEDED, *_OPTIONAL) if column in columns]
    found: dict[str, LabelRow] = {}
    for number, row in enumerate(rows, start=1):
        cells = {column: _text(row[column]) for column in used}
        empty = [column for column in used if not cells[column]]
        if empty:
            raise DataError(
                f"{table}: row {number}: {empty[0]} is {row[empty[0]]!r}; expected text or a whole number in {used}"
            )
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), cells["path"]))
        if path.startswith(("../", "/")):
            raise DataError(
                f"{table}: row {number}: {cells['path']!r} is outside {root}; expected a path relative to the table, "
                "to an image below data.path"
            )
        if path in found:
            raise DataError(f"{table}: row {number}: {cells['path']!r} is there twice; expected one row per image")
        split = cells.get("split", "")
        if split and split.lower() not in SPLIT_NAMES:
            raise DataError(f"{table}: row {number}: split is {split!r}; expected one of {list(SPLIT_NAMES)}")
        found[path] = LabelRow(path, cells["label"], SPLIT_NAMES.get(split.lower(), ""), cells.get("group", ""))
    return [found[path] for path in sorted(found)]


def check_listed(rows: Sequence[LabelRow], known: Collection[str], table: Path) -> None:
    """Refuse a table with images that are not there.

    Args:
        rows: Of the table.
        known: Paths of the data set's files.
        table: Its path, for the message.

    Raises:
        DataError: The index does not know a path.
    """
    absent = [row.path for row in rows if row.path not in known]
    if absent:
        near = difflib.get_close_matches(absent[0], sorted(known)[:10_000], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(
            f"{table}: {len(absent)} of {len(rows)} images are not there, the first {absent[0]!r}{hint}. Paths are "
            "relative to the table."
        )


def _read_csv(table: Path) -> tuple[Sequence[str], list[dict[str, Any]]]:
    header, lines = read_foreign_csv(table, _ABSENT)
    if len(set(header)) < len(header):
        raise DataError(f"{table}: columns are {header}; expected each once")
    return header, [dict(zip(header, line, strict=True)) for line in lines]


def _read_parquet(table: Path) -> tuple[Sequence[str], list[dict[str, Any]]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        columns = parquet.read_schema(table).names
        if len(set(columns)) < len(columns):
            raise DataError(f"{table}: columns are {columns}; expected each once")
        used = [name for name in (*_NEEDED, *_OPTIONAL) if name in columns]
        return columns, parquet.read_table(table, columns=used).to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"{_ABSENT}: {table} is not there") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{table}: is not a Parquet file ({error})") from error


# To read another kind of table, add its reader here; index.table then accepts its suffix. A reader returns the columns
# and the rows. Every row has a value for every column, None if the file has none. It raises DataError for a bad file.
READERS: dict[str, Callable[[Path], tuple[Sequence[str], list[dict[str, Any]]]]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _check_columns(table: Path, columns: Sequence[str]) -> None:
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise DataError(f"{table}: columns are {list(columns)}; expected path and label, and maybe split and group")
    for name in _OPTIONAL:
        near = [other for other in columns if difflib.get_close_matches(other.lower(), [name], cutoff=0.8)]
        if name not in columns and near:
            raise DataError(f"{table}: has a column {near[0]!r}; expected {name!r}, or a name that is not so near")


def _text(cell: object) -> str:
    """Return a cell as text; empty for what is no name, such as 1.5 or nothing."""
    if isinstance(cell, str):
        return cell
    return str(cell) if isinstance(cell, int) and not isinstance(cell, bool) else ""
