"""The journal: the rows that a long `predict` job has finished, so that the same command resumes it after a kill."""

import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any

from headstart.base.errors import DataError
from headstart.base.files import canonical_json
from headstart.predict.inputs import InputImage
from headstart.predict.outputs import Record

Stamp = list[int]


class Journal:
    """A file beside the output, `<output>.partial`: a header line with the key, then one JSON line for each record.

    Args:
        output: File that is written at the end of the job.
        key: Everything that the records depend on besides the images.

    Raises:
        DataError: Another process is writing the journal, or the file belongs to another job.
    """

    def __init__(self, output: Path, key: dict[str, Any]) -> None:
        self.path = output.with_name(f"{output.name}.partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._header = canonical_json(key).encode() + b"\n"  # empty once it is written
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666), "r+b")
        try:
            self._known = self._lock_and_read()
        except BaseException:
            self._file.close()
            raise

    def find(self, name: str, stamp: Stamp) -> Record | None:
        """Return the record of an image that has been predicted and has not changed since; None otherwise."""
        known = self._known.get(name)
        return known[1] if known is not None and known[0] == stamp else None

    def add(self, name: str, stamp: Stamp, record: Record) -> None:
        """Append a record. It may stay in this process's buffer until `flush`."""
        self._file.write(self._header + json.dumps([name, stamp, record]).encode() + b"\n")
        self._header = b""

    def flush(self) -> None:
        """Hand the appended records to the operating system, so that a kill of this process does not lose them."""
        self._file.flush()

    def remove(self) -> None:
        """Delete the journal after the output has been written."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Keep the journal for the next run, unless it is empty."""
        self._file.flush()
        if not os.fstat(self._file.fileno()).st_size:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _lock_and_read(self) -> dict[str, tuple[Stamp, Record]]:
        """Lock the file until this process ends, and return its records up to the line that a kill cut."""
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            raise DataError(f"{self.path}: is not a regular file; move it away, or name another --output")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except (BlockingIOError, FileNotFoundError):
            is_ours = False  # another run is writing it, or has just finished and deleted it
        if not is_ours:
            raise DataError(
                f"{self.path}: another run is writing it. Wait until it has finished, or name another --output"
            )
        lines = self._file.read().splitlines(keepends=True)
        is_new = not lines or (len(lines) == 1 and self._header.startswith(lines[0]))
        if not is_new and lines[0] != self._header:
            raise DataError(
                f"{self.path}: belongs to a job with another model, --top or --coverage, or is not a journal. Give the "
                "same options, remove the file, or name another --output"
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


def file_stamp(image: InputImage) -> Stamp:
    """Return numbers that change when the image's file changes; empty if the file cannot be read."""
    try:
        status = image.path.stat()
    except (OSError, ValueError):
        return []
    member = -1 if image.member is None else image.member
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, member]
