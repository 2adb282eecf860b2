"""The record: what the last run found in each file, so that unchanged files are not read again.

It belongs to this machine and is not an output of the stage. If it is missing or damaged, the index is the same but
takes longer.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.base.files import code_digests, sha256_json
from headstart.base.kept import read_kept, try_to_write, write_kept
from headstart.base.machine import cache_folder
from headstart.imaging.opening import decoder_versions
from headstart.sources.folder import Stamp
from headstart.tables.index import IndexRow

# A file may change again within one tick of a file system's clock (two seconds on FAT) and keep its stamp.
_TICK_NS = 2 * 10**9
_SAVE_EVERY_SECONDS = 60.0
_CODE = (
    "headstart/imaging/capture.py",
    "headstart/imaging/decode.py",
    "headstart/imaging/effort.py",
    "headstart/imaging/formats.py",
    "headstart/imaging/opening.py",
    "headstart/imaging/orientation.py",
    "headstart/imaging/scale.py",
    "headstart/sources",
    "stages/index/examination.py",
)


class Record:
    """Rows of the files of one folder, by path and stamp.

    Args:
        folder: Folder of the data set.
        max_pixels: Largest width x height that is decoded.

    Attributes:
        path: `.cache/index/<digest of the folder's path>.json` of the project (see `cache_folder`).
    """

    def __init__(self, folder: Path, max_pixels: int) -> None:
        name = sha256_json({"folder": str(folder.resolve())})[:16]
        self.path = cache_folder() / "index" / f"{name}.json"
        code = code_digests(*_CODE)
        self._key = sha256_json({"code": code, **decoder_versions(), "max_pixels": max_pixels})
        self._known = self._read()
        self._rows: dict[str, tuple[Any, ...]] = {}
        self._newest = time.time_ns() - _TICK_NS
        self._saved = time.monotonic()

    def find(self, path: str, stamp: Stamp | None) -> IndexRow | None:
        """Return the recorded row of a file; None if the file is not recorded or has changed.

        Args:
            path: Path of the file below the folder.
            stamp: Stamp of the file now; None if it has none.
        """
        known = self._known.get(path)
        if known is None or known[:3] != stamp:
            return None
        self._rows[path] = known
        return IndexRow(path, *known[3:])

    def add(self, row: IndexRow, stamp: Stamp | None) -> None:
        """Add an examined file, if any later change will give it another stamp. Save the record once a minute.

        Args:
            row: Row of the file.
            stamp: Stamp of the file before it was read; None if it has none.
        """
        if stamp is not None and row.digest and stamp[1] < self._newest:
            found = (row.digest, row.format, row.width, row.height, row.status, row.reason, row.camera, row.taken)
            self._rows[row.path] = (*stamp, *found)
        if time.monotonic() - self._saved > _SAVE_EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the record to disk if it has changed."""
        if self._rows != self._known:
            columns = list(zip(*self._rows.values(), strict=True))  # columns are read six times as fast as rows
            content = json.dumps({"paths": list(self._rows), "columns": columns}, separators=(",", ":")).encode()
            try_to_write(self.path, lambda: write_kept(self.path, self._key, content), "index")
        self._saved = time.monotonic()

    def _read(self) -> Mapping[str, tuple[Any, ...]]:
        data = read_kept(self.path, self._key, "index")
        if data is None:
            return {}
        content = json.loads(data)
        return dict(zip(content["paths"], zip(*content["columns"], strict=True), strict=True))
