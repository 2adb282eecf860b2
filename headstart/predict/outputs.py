"""Outputs: predictions as a table to read, CSV, JSON lines or Parquet; a job that was killed goes on."""

import csv
import fcntl
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError
from headstart.base.files import atomic_path, canonical_json
from headstart.predict.inputs import Source
from headstart.predict.prediction import UNKNOWN, Prediction

FORMATS = ("table", "csv", "jsonl", "parquet")
Record = dict[str, Any]


def record_of(prediction: Prediction, num_top: int) -> Record:
    """Return a prediction as one row: path, status, reason, predicted, confidence, and the most probable classes.

    Args:
        prediction: Of an image.
        num_top: Classes that are named besides if there are more than 1, the first, too, in `predicted_1` with
            `confidence_1`: the prediction itself may be `unknown`.
    """
    record: Record = {"path": _text(prediction.name), "status": prediction.status, "reason": prediction.reason}
    record |= dict.fromkeys(_columns(num_top))
    if prediction.confidence is not None:
        record |= {"predicted": prediction.predicted, "confidence": round(prediction.confidence, 6)}
    for (predicted, confidence), (label, probability) in zip(_ranked(num_top), prediction.top(num_top), strict=False):
        record |= {predicted: label, confidence: round(probability, 6)}
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
        header = ["path", "status", "reason", *_columns(num_top)]
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


def check_output(path: Path, sources: Sequence[Source], bundle: Path) -> None:
    """Refuse before any work to write over what is read.

    Args:
        path: Of the output.
        sources: That are predicted.
        bundle: Folder of the model.

    Raises:
        DataError: It is an image or archive of the input, is or lies in the bundle, or is there and no regular file.
    """
    if path.resolve().is_relative_to(bundle.resolve()):
        raise DataError(f"{path}: lies in the bundle; name another output")
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path}: is no regular file; name another output")
    for inner in {source.path for source in sources}:
        with suppress(OSError, ValueError):  # a path that cannot be read is a row with a reason
            if os.path.samestat(inner.stat(), found):
                raise DataError(f"{path}: is an input too; name another output")


class Journal:
    """What a long job has predicted so far, beside its output, so that the same command goes on after a kill.

    Args:
        output: The file that will be written at the end; the journal is `<output>.partial`.
        key: All that the records depend on besides the images.

    Raises:
        DataError: Another run is writing it, or it is there and not of this job.
    """

    def __init__(self, output: Path, key: dict[str, Any]) -> None:
        self.path = output.with_name(f"{output.name}.partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._header = canonical_json(key).encode() + b"\n"  # until it is written
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666), "r+b")
        try:
            self._known = self._take()
        except BaseException:
            self._file.close()
            raise

    def find(self, name: str, stamp: Sequence[int]) -> Record | None:
        """Return the record of an image that has been predicted and has not changed since."""
        known = self._known.get(name)
        return known[1] if known is not None and known[0] == list(stamp) else None

    def add(self, name: str, stamp: Sequence[int], record: Record) -> None:
        """Remember a record; it is on disk within a few of them."""
        self._file.write(self._header + json.dumps([name, list(stamp), record]).encode() + b"\n")
        self._header = b""

    def flush(self) -> None:
        """Hand what was added to the system: a kill of this process loses none of it."""
        self._file.flush()

    def remove(self) -> None:
        """Delete it, when the output is written."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Leave it for the next run, if there is something in it."""
        self._file.flush()
        if not os.fstat(self._file.fileno()).st_size:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _take(self) -> dict[str, tuple[list[int], Record]]:
        """Lock the file, which ends with this process, and read it up to where a kill cut it."""
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            raise DataError(f"{self.path}: is no regular file; move it away, or name another --output")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except (BlockingIOError, FileNotFoundError):
            is_there = False  # or its run has just ended and deleted it
        if not is_there:
            raise DataError(f"{self.path}: another run is writing it. Wait for that, or name another --output")
        lines = self._file.read().splitlines(keepends=True)
        is_new = not lines or (len(lines) == 1 and self._header.startswith(lines[0]))
        if not is_new and lines[0] != self._header:
            raise DataError(
                f"{self.path}: is of a job with another model, --top or --coverage, or none of ours. Give the same "
                "options, remove it, or name another --output"
            )
        known, end = {}, len(self._header)
        for line in lines[1:]:
            try:
                name, stamp, record = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            known[name], end = (stamp, record), end + len(line)
        if known:
            self._header = b""
        self._file.truncate(end if known else 0)
        self._file.seek(0, os.SEEK_END)
        return known


def _ranked(num_top: int) -> list[tuple[str, str]]:
    ranks = range(1, num_top + 1) if num_top > 1 else ()
    return [(f"predicted_{rank}", f"confidence_{rank}") for rank in ranks]


def _columns(num_top: int) -> list[str]:
    return ["predicted", "confidence", *(name for names in _ranked(num_top) for name in names)]


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
    is_unknown = record["status"] == UNKNOWN
    ranked = [(record[label], record[probability]) for label, probability in _ranked(num_top)]
    shown = [f"{probability:6.3f}  {label}" for label, probability in ranked if label is not None]
    if is_unknown or not shown:
        shown.insert(0, f"{record['confidence']:6.3f}  {record['predicted']}")
    why = f": {record['reason']}" * is_unknown
    return f"{'  '.join(shown)}  {path}{why}\n"


def _write_parquet(path: Path, records: Sequence[Record], num_top: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"path": pa.string(), "status": pa.string(), "reason": pa.string()}
    kinds |= {name: pa.string() if name.startswith("predicted") else pa.float64() for name in _columns(num_top)}
    parquet.write_table(pa.Table.from_pylist(list(records), pa.schema(list(kinds.items()))), path)
