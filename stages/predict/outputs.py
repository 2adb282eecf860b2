"""Outputs: predictions as a table to read, CSV, JSON lines or Parquet; a job that was killed goes on."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import DataError
from stages.core.files import atomic_path, canonical_json
from stages.predict.predictions import UNKNOWN, Prediction

FORMATS = ("table", "csv", "jsonl", "parquet")
Record = dict[str, Any]


def record_of(prediction: Prediction, num_top: int) -> Record:
    """Return a prediction as one row: path, status, reason, predicted, confidence, and the classes after the first.

    Args:
        prediction: Of an image.
        num_top: Classes that are named, at least 1: the second is `predicted_2` with `confidence_2`.
    """
    record: Record = {"path": _text(prediction.name), "status": prediction.status, "reason": prediction.reason}
    record |= dict.fromkeys(_ranked(num_top))
    for rank, (label, probability) in enumerate(prediction.top(num_top), start=1):
        predicted, confidence = _names(rank)
        record |= {predicted: label, confidence: round(probability, 6)}
    if prediction.logits is not None:
        record["predicted"] = prediction.predicted  # `unknown`, it may be
    return record


def lines_of(records: Iterable[Record], kind: str, num_top: int) -> Iterator[str]:
    """Give records as lines of text, one by one.

    Args:
        records: By `record_of`.
        kind: `table`, `csv` or `jsonl`.
        num_top: As for `record_of`.
    """
    if kind == "jsonl":
        yield from (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    elif kind == "csv":
        header = ["path", "status", "reason", *_ranked(num_top)]
        yield _csv_line(header)
        yield from (_csv_line([record[column] for column in header]) for record in records)
    else:
        for record in records:
            yield _table_line(record, num_top)


def write_records(path: Path, records: Sequence[Record], kind: str, num_top: int) -> None:
    """Write records to a file, whole or not at all."""
    with atomic_path(path) as temporary:
        if kind == "parquet":
            _write_parquet(temporary, records, num_top)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.writelines(lines_of(records, kind, num_top))


class Journal:
    """What a long job has predicted so far, beside its output, so that the same command goes on after a kill.

    Args:
        output: The file that will be written at the end; the journal is `<output>.partial`.
        key: All that the records depend on besides the images. A journal with another key is begun anew.
    """

    def __init__(self, output: Path, key: dict[str, Any]) -> None:
        self.path = output.with_name(f"{output.name}.partial")
        self._key = canonical_json(key)
        self._known = self._read()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a" if self._known else "w", encoding="utf-8")
        if not self._known:
            self._file.write(self._key + "\n")

    def find(self, name: str, stamp: Sequence[int]) -> Record | None:
        """Return the record of an image that has been predicted and has not changed since."""
        known = self._known.get(name)
        return known[1] if known is not None and known[0] == list(stamp) else None

    def add(self, name: str, stamp: Sequence[int], record: Record) -> None:
        """Remember a record; it is on disk within a few of them."""
        self._file.write(json.dumps([name, list(stamp), record]) + "\n")

    def flush(self) -> None:
        """Hand what was added to the system: a kill of this process loses none of it."""
        self._file.flush()

    def remove(self) -> None:
        """Delete it, when the output is written."""
        self._file.close()
        self.path.unlink()

    def close(self) -> None:
        """Leave it for the next run."""
        self._file.close()

    def _read(self) -> dict[str, tuple[list[int], Record]]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path}: cannot be read ({error}). Remove it to begin anew.") from error
        if not lines or lines[0] != self._key + "\n":
            return {}
        known = {}
        for line in lines[1:]:
            if not line.endswith("\n"):  # cut by a kill; it would spoil the line that is added behind it
                self._cut(len(line.encode()))
                break
            name, stamp, record = json.loads(line)
            known[name] = (stamp, record)
        return known

    def _cut(self, num_bytes: int) -> None:
        with self.path.open("rb+") as file:
            file.truncate(file.seek(0, os.SEEK_END) - num_bytes)


def _names(rank: int) -> tuple[str, str]:
    return ("predicted", "confidence") if rank == 1 else (f"predicted_{rank}", f"confidence_{rank}")


def _ranked(num_top: int) -> list[str]:
    return [name for rank in range(1, num_top + 1) for name in _names(rank)]


def _text(name: str) -> str:
    r"""Return a path as text that every format takes; bytes that are no UTF-8 are shown as `\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _csv_line(cells: Sequence[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(cells)  # else Python before 3.13 leaves a CR in a cell unquoted
    return line.getvalue().removesuffix("\r\n") + "\n"


def _table_line(record: Record, num_top: int) -> str:
    path = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in record["path"])
    if record["predicted"] is None:
        return f"{record['status']:>6}  {path}: {record['reason']}\n"
    ranked = [(record[label], record[probability]) for label, probability in map(_names, range(1, num_top + 1))]
    shown = "  ".join(f"{probability:6.3f}  {label}" for label, probability in ranked if label is not None)
    why = f": {record['reason']}" * (record["status"] == UNKNOWN)
    return f"{shown}  {path}{why}\n"


def _write_parquet(path: Path, records: Sequence[Record], num_top: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"path": pa.string(), "status": pa.string(), "reason": pa.string()}
    kinds |= {name: pa.string() if name.startswith("predicted") else pa.float64() for name in _ranked(num_top)}
    parquet.write_table(pa.Table.from_pylist(list(records), pa.schema(list(kinds.items()))), path)
