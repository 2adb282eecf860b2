"""CSV files: UTF-8, comma-separated, with one header line. Those of others may have other separators.

Cells are quoted as RFC 4180 says, so a path may contain commas, quotes and line ends.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.base.errors import DataError, TableError
from headstart.base.files import check_regular, read_bytes, write_bytes

# Separators of cells, and their names. Of several that give a header as many cells, the first counts.
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
# What git writes around the sides of a conflict.
_CONFLICT_MARKER = r"(<{7}|\|{7}|>{7}) |={7}$"


@dataclass(frozen=True)
class CsvStyle:
    """How a CSV file is written.

    Attributes:
        separator: What separates cells.
        line_end: What ends a line.
        has_mark: Whether the file begins with a byte order mark, by which spreadsheets know UTF-8.
    """

    separator: str = ","
    line_end: str = "\n"
    has_mark: bool = False


def write_table(
    path: Path, header: Sequence[str], rows: Iterable[Iterable[object]], style: CsvStyle | None = None
) -> None:
    """Write a CSV file, whole or not at all.

    Args:
        path: Path of the file.
        header: Names of the columns.
        rows: Cells of each row. `str` converts a cell that is not text.
        style: How it is written; None as the project's own files are.

    Raises:
        OSError: The file cannot be written.
    """
    style = style or CsvStyle()
    lines: list[tuple[object, ...]] = [tuple(header), *map(tuple, rows)]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=style.separator, lineterminator=style.line_end).writerows(lines)
    table = text.getvalue()
    # Python before 3.13 does not quote a carriage return if lines end in a line feed.
    if style.line_end == "\n" and "\r" in table:
        table = "".join(f"{csv_line(line, style.separator)}\n" for line in lines)
    write_bytes(path, table.encode("utf-8-sig" if style.has_mark else "utf-8"))


def read_foreign_csv(path: Path, remedy: str, *, is_told: bool = True) -> tuple[list[str], dict[int, list[str]]]:
    """Read a CSV file that a person or a spreadsheet wrote.

    A byte order mark, empty lines, and empty columns at the right are ignored.

    Spreadsheets of countries with a decimal comma separate cells by semicolons, and some programs by tabs. The header
    shows it: the separator is the one that gives it most cells.

    Args:
        path: Path of the file.
        remedy: What the user can do if the file is missing. The message ends with it.
        is_told: Whether a separator that is no comma is printed.

    Returns:
        The header, and the rows by their number, as a spreadsheet shows it (the header is row 1). Every row has as many
        cells as the header.

    Raises:
        DataError: The file is missing, not UTF-8 or not CSV, has git's conflict markers, or a row has another number of
            cells than the header.
    """
    try:
        check_regular(path)
        separator = csv_style(path).separator
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines_of_file = csv.reader(file, strict=True, delimiter=separator)
            lines = {number: line for number, line in enumerate(lines_of_file, start=1) if any(line)}
    except FileNotFoundError as error:
        raise DataError(f"{path}: is missing. {remedy}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not a UTF-8 CSV file: {_first_foreign_byte(path)}. Save it as CSV in UTF-8, which "
            "spreadsheets call `CSV UTF-8` or offer as a character set."
        ) from error
    except csv.Error as error:
        raise DataError(f"{path}: is not a UTF-8 CSV file ({error}). Save it as CSV in UTF-8.") from error
    for number, line in lines.items():
        if re.match(_CONFLICT_MARKER, line[0]):
            raise DataError(
                f"{path}: row {number} is {line[0]!r}, a conflict marker of git. Keep the rows that are right, remove "
                "the lines with markers, and commit the file."
            )
    if separator != "," and is_told:
        print(f"{path}: cells are separated by {_SEPARATORS[separator]}s, as the header shows")
    header = lines.pop(min(lines)) if lines else []
    while header and not header[-1]:  # of a spreadsheet that once had more columns
        header.pop()
    for number, line in lines.items():
        del line[max(len(header), *(place for place, cell in enumerate(line, start=1) if cell)) :]
        if len(line) != len(header):
            raise DataError(
                f"{path}: row {number} has {len(line)} cells; expected {len(header)}: {header}. Quote a cell that "
                f"contains a {_SEPARATORS[separator]}."
            )
    return header, lines


def csv_style(path: Path) -> CsvStyle:
    """Return how a CSV file is written. Its separator is the one that gives the first line most cells.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        has_mark = file.read(1) == "\ufeff"
        file.seek(0)
        line = next((line for line in file if line.removeprefix("\ufeff").strip()), "").removeprefix("\ufeff")
    separator = max(_SEPARATORS, key=lambda one: len(next(csv.reader([line], delimiter=one), [])))
    return CsvStyle(separator, "\r\n" if line.endswith("\r\n") else "\n", has_mark)


def _first_foreign_byte(path: Path) -> str:
    """Return which byte of a file is not UTF-8, and where it is."""
    data = path.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].splitlines(keepends=True) or [b""]
        if before[-1].endswith((b"\n", b"\r")):
            before.append(b"")
        column = len(before[-1].decode("utf-8-sig")) + 1
        return f"line {len(before)}, column {column} has the byte 0x{data[error.start]:02X}"
    return "it has changed while it was read"


def csv_line(cells: Iterable[object], separator: str = ",") -> str:
    """Return cells as one line of CSV, without a line end."""
    line = io.StringIO(newline="")
    # Python before 3.13 quotes a line end in a cell only if lines end in it too.
    csv.writer(line, delimiter=separator, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n")


def read_table(path: Path, remedy: str) -> tuple[list[str], list[list[str]]]:
    """Read a file that `write_table` wrote.

    Args:
        path: Path of the file.
        remedy: What the user can do about a bad file. Every message ends with it.

    Returns:
        The header and the rows.

    Raises:
        TableError: The file is missing, empty or not UTF-8 CSV.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError as error:
        raise TableError(f"{path}: is missing. {remedy}") from error
    return parse_table(data, str(path), remedy)


def parse_table(data: bytes, name: str, remedy: str) -> tuple[list[str], list[list[str]]]:
    """Read the bytes of a file that `write_table` wrote.

    Args:
        data: Bytes of the file.
        name: Name of the file, for messages.
        remedy: As for `read_table`.

    Returns:
        The header and the rows.

    Raises:
        TableError: The file is empty or not UTF-8 CSV.
    """
    try:
        lines = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{name}: is not a UTF-8 CSV file ({error}). {remedy}") from error
    if not lines:
        raise TableError(f"{name}: is empty. {remedy}")
    return lines[0], lines[1:]
