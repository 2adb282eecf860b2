"""CSV files: lines of cells, written and read without guessing.

UTF-8, comma-separated, RFC 4180 quoting (a path may hold commas, quotes and line ends), one header line.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from headstart.base.errors import DataError, TableError
from headstart.base.files import write_bytes


def write_table(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a header line and rows as they come."""
    lines: list[tuple[object, ...]] = [tuple(header), *map(tuple, rows)]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    table = text.getvalue()
    if "\r" in table:  # which Python before 3.13 leaves unquoted here
        table = "".join(f"{csv_line(line)}\n" for line in lines)
    write_bytes(path, table.encode())


def read_foreign_csv(path: Path, absent: str) -> tuple[list[str], list[list[str]]]:
    """Read a CSV file that a person or a spreadsheet wrote; a mark before it and empty lines are passed over.

    Args:
        path: Of the file.
        absent: What to say if it is not there.

    Returns:
        The header, and the other lines, with as many cells each.

    Raises:
        DataError: It is not there, not UTF-8, not CSV, or a line has another number of cells.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = [line for line in csv.reader(file, strict=True) if line] or [[]]
    except FileNotFoundError as error:
        raise DataError(f"{absent}: {path} is not there") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a UTF-8 CSV file ({error})") from error
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise DataError(f"{path}: row {number} has {len(line)} cells; expected {len(header)}: {header}")
    return header, lines


def csv_line(cells: Iterable[object]) -> str:
    """Return cells as a line of CSV, without the line's end."""
    line = io.StringIO(newline="")
    # Python before 3.13 leaves line ends in cells unquoted unless they are among the line's own.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n")


def read_table(path: Path, remedy: str) -> tuple[list[str], list[list[str]]]:
    """Read what `write_table` wrote: the header and the other lines.

    Raises:
        TableError: It is missing, empty, or not UTF-8 CSV; ends with the remedy.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except FileNotFoundError as error:
        raise TableError(f"{path}: is missing. {remedy}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: is not a UTF-8 CSV file ({error}). {remedy}") from error
    if not lines:
        raise TableError(f"{path}: is empty. {remedy}")
    return lines[0], lines[1:]
