"""Outputs: predictions as a table for people, or as CSV, JSON lines or Parquet."""

import importlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.base.csv_files import csv_line
from headstart.base.errors import DataError
from headstart.base.files import atomic_path
from headstart.base.terminal import printable
from headstart.predict.inputs import InputImage
from headstart.predict.prediction import UNKNOWN, Prediction, utf8_text

Record = dict[str, Any]


@dataclass(frozen=True)
class OutputFormat:
    """A format of the output.

    Attributes:
        lines: Gives records as lines of text, one by one; takes the records and the number of most probable classes.
            None for a format that is no text.
        write: Writes a format that is no text to a file; takes the path and the same. None for text.
        package: Package that the format needs beyond the library's own.
    """

    lines: Callable[[Iterable[Record], int], Iterator[str]] | None = None
    write: Callable[[Path, Sequence[Record], int], None] | None = None
    package: str | None = None


def make_record(prediction: Prediction, num_top: int) -> Record:
    """Return a prediction as one row: path, status, reason, predicted, confidence, and the most probable classes.

    Args:
        prediction: Prediction for one image.
        num_top: Number of most probable classes to list. If it is more than 1, the first one is listed too
            (`predicted_1`, `confidence_1`), because `predicted` may be `unknown`.
    """
    record: Record = {"path": utf8_text(prediction.name), "status": prediction.status, "reason": prediction.reason}
    record |= dict.fromkeys(_columns(num_top))
    if prediction.confidence is not None:
        record |= {"predicted": prediction.predicted, "confidence": round(prediction.confidence, 6)}
    for (predicted, confidence), (label, probability) in zip(_ranked(num_top), prediction.top(num_top), strict=False):
        record |= {predicted: label, confidence: round(probability, 6)}
    return record


def format_lines(records: Iterable[Record], format_name: str, num_top: int) -> Iterator[str]:
    """Give records as lines of text, one by one.

    Args:
        records: Rows from `make_record`.
        format_name: A text format of `FORMATS`.
        num_top: As for `make_record`.
    """
    lines = FORMATS[format_name].lines
    assert lines is not None, "the command line refuses to print a format that is no text"
    return lines(records, num_top)


def write_records(path: Path, records: Sequence[Record], format_name: str, num_top: int) -> None:
    """Write records to a file in one of `FORMATS`, whole or not at all."""
    chosen = FORMATS[format_name]
    with atomic_path(path) as temporary:
        if chosen.write is not None:
            chosen.write(temporary, records, num_top)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.writelines(format_lines(records, format_name, num_top))


def check_writable(path: Path) -> None:
    """Raise if no file can be written to a path, before the slow work.

    Args:
        path: The path. Missing folders above it are no error, because they are made.

    Raises:
        DataError: The nearest existing folder above the path is a file or cannot be written to.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise DataError(f"{path}: {folder} is a file; expected a folder. Name another output.")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DataError(f"{path}: {folder} cannot be written to ({error.strerror}). Name another output.") from error


def check_output(path: Path, inputs: Sequence[InputImage], bundle: Path) -> None:
    """Check that the output can be written and that this destroys nothing that is read.

    Args:
        path: Path of the output.
        inputs: Images that are predicted.
        bundle: Folder of the bundle.

    Raises:
        DataError: The output is an image or an archive of the input, lies in the bundle, cannot be written, or exists
            and is not a regular file.
    """
    if path.resolve().is_relative_to(bundle.resolve()):
        raise DataError(f"{path}: lies in the bundle; name another output")
    check_writable(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: is not a regular file; name another output")
    for input_path in {image.path for image in inputs}:
        with suppress(OSError, ValueError):  # a path that cannot be read becomes a row with a reason
            if os.path.samestat(input_path.stat(), status):
                raise DataError(f"{path}: is also an input; name another output")


def check_format(format_name: str) -> None:
    """Import the package that writes a format, so that a missing one is reported before any work.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    package = FORMATS[format_name].package
    if package is not None:
        importlib.import_module(package)


def _ranked(num_top: int) -> list[tuple[str, str]]:
    ranks = range(1, num_top + 1) if num_top > 1 else ()
    return [(f"predicted_{rank}", f"confidence_{rank}") for rank in ranks]


def _columns(num_top: int) -> list[str]:
    return ["predicted", "confidence", *(name for names in _ranked(num_top) for name in names)]


def _json_lines(records: Iterable[Record], _: int) -> Iterator[str]:
    return (json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _csv_lines(records: Iterable[Record], num_top: int) -> Iterator[str]:
    header = ["path", "status", "reason", *_columns(num_top)]
    yield f"{csv_line(header)}\n"
    yield from (f"{csv_line(record[column] for column in header)}\n" for record in records)


def _table_lines(records: Iterable[Record], num_top: int) -> Iterator[str]:
    return (_table_line(record, num_top) for record in records)


def _table_line(record: Record, num_top: int) -> str:
    path = printable(record["path"])
    if record["predicted"] is None:
        return f"{record['status']:>6}  {path}: {record['reason']}\n"
    is_unknown = record["status"] == UNKNOWN
    ranked = [(record[label], record[probability]) for label, probability in _ranked(num_top)]
    shown = [f"{probability:6.3f}  {printable(label)}" for label, probability in ranked if label is not None]
    if is_unknown or not shown:
        shown.insert(0, f"{record['confidence']:6.3f}  {printable(record['predicted'])}")
    reason = f": {record['reason']}" * is_unknown
    return f"{'  '.join(shown)}  {path}{reason}\n"


def _write_parquet(path: Path, records: Sequence[Record], num_top: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"path": pa.string(), "status": pa.string(), "reason": pa.string()}
    types |= {name: pa.string() if name.startswith("predicted") else pa.float64() for name in _columns(num_top)}
    parquet.write_table(pa.Table.from_pylist(list(records), pa.schema(list(types.items()))), path)


# The suffix of `--output` chooses the format by its name.
FORMATS = {
    "table": OutputFormat(lines=_table_lines),
    "csv": OutputFormat(lines=_csv_lines),
    "jsonl": OutputFormat(lines=_json_lines),
    "parquet": OutputFormat(write=_write_parquet, package="pyarrow"),
}
