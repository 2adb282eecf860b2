"""The pixel cache: decoded and reduced pictures on disk, so that later epochs and runs decode no photo again.

It lies outside every DVC output and changes no result. Deleting it costs only time.

    .cache/pixels/<sha256 of the file>.safetensors    a shard: pictures by name, uint8 of any shape; its time of change
                                                      is that of its last use

The name of a picture is `<recipe>/<sha256 of the photo>`. The recipe is a digest of all that the pixels depend on
besides the photo. A shard is written under a temporary name, synced, renamed, and never changed. Its own name is its
digest, so damage is noticed. It is mapped into memory, so the operating system keeps pictures there while memory is
free.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ByteSize
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from headstart.base.files import check_regular, code_digests, sha256_file, sha256_json, write_bytes
from headstart.base.machine import cache_folder
from headstart.base.tensor_files import TensorFileError, one_error
from headstart.imaging.opening import decoder_versions

Pixels = NDArray[np.uint8]

# A kill loses at most the shard that is being filled, and a few hundred files hold the pictures of 100,000 photos.
SHARD_BYTES = 2**26
_PATTERN = "[0-9a-f]" * 64 + ".safetensors"
_STALE_SECONDS = 3600  # age at which a temporary file is one of a killed process
# Part of the free disk space that may be filled: checkpoints and results need some too.
_OF_FREE_SPACE = 0.5


def recipe(**parts: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """Return a digest of how a photo becomes pixels, 16 hex digits.

    Args:
        parts: What the pixels depend on besides the photo, the decoders, and the code of `headstart.imaging`.
    """
    return sha256_json({"code": code_digests("headstart/imaging"), "decoders": decoder_versions(), **parts})[:16]


class PixelCache:
    """Pictures that are kept. Thread-safe; several processes may share the folder.

    Args:
        wanted: Number of bytes of each picture that this run needs, by name. Other pictures are not kept.
        budget: Largest number of bytes of the folder; 0 keeps nothing. If the pictures need space, shards without any
            of them are removed, the longest unused first. What does not fit is made again whenever it is needed. Runs
            that start at the same time may exceed it.
        asked_by: Name of the stage, for messages.
        num_processes: Number of processes on this machine that keep pictures at the same time.
        folder: Folder of the shards; None for that of the project.
    """

    def __init__(
        self,
        wanted: Mapping[str, int],
        budget: int,
        asked_by: str,
        *,
        num_processes: int = 1,
        folder: Path | None = None,
    ) -> None:
        self._folder = cache_folder() / "pixels" if folder is None else folder
        self._wanted, self._asked_by = wanted, asked_by
        self._seen: set[Path] = set()
        self._used: dict[Path, Any] = {}  # the open shards
        self._shards: dict[str, Any] = {}  # the open shard of each kept picture
        self._pending: dict[str, Pixels] = {}
        self._pending_bytes = self._left = 0
        self._lock = threading.Lock()
        self._budget, self._num_processes = budget, num_processes
        if budget:
            self._open_new()
            self._free_space()

    def refresh(self) -> None:
        """Look for pictures that other processes have kept. Damaged shards are named and removed."""
        if self._budget:
            self._open_new()
            with self._lock:
                self._left = min(self._left, self._share_of(sum(_stat(path)[0] for path in self._seen)))

    def find(self, name: str) -> Pixels | None:
        """Return a kept picture, which must not be changed; None if it is not kept."""
        shard = self._shards.get(name)
        return self._pending.get(name) if shard is None else shard.get_tensor(name)

    def may_keep(self, name: str) -> bool:
        """Return whether a picture is wanted and not kept, and there may be space for it."""
        return self._lacks(name) and self._pending_bytes < self._left

    def add(self, name: str, pixels: Pixels) -> None:
        """Keep a picture if it is wanted and there is space.

        Args:
            name: Name of the picture.
            pixels: The picture, uint8 of any shape.
        """
        with self._lock:
            if self._lacks(name) and self._pending_bytes + pixels.nbytes <= self._left:
                self._pending[name] = np.ascontiguousarray(pixels)
                self._pending_bytes += pixels.nbytes
                if self._pending_bytes >= SHARD_BYTES:
                    self._write()

    def flush(self) -> None:
        """Write the pictures that were added since the last shard as a new shard."""
        with self._lock:
            if self._pending:
                self._write()

    def _lacks(self, name: str) -> bool:
        return name in self._wanted and name not in self._shards and name not in self._pending

    def _open_new(self) -> None:
        for path in sorted(self._folder.glob(_PATTERN)):
            if path not in self._seen:
                self._seen.add(path)
                self._open(path)

    def _open(self, path: Path) -> None:
        """Use a shard if it has missing pictures."""
        try:
            check_regular(path)
            with one_error():
                shard: Any = safe_open(path, framework="numpy")
                names = [name for name in shard.keys() if self._lacks(name)]  # noqa: SIM118 - no mapping
                are_pixels = all(shard.get_slice(name).get_dtype() == "U8" for name in names)
            is_damaged = bool(names) and (sha256_file(path) != path.stem or not are_pixels)
        except FileNotFoundError:  # another process has removed it
            return
        except (OSError, TensorFileError):
            is_damaged = True
        if is_damaged:
            self._say(f"WARNING: {path} is damaged and is removed; its pictures are made again")
            _remove(path)
        elif names:
            self._use(path, shard, names)
            with suppress(OSError):  # a read-only disk
                os.utime(path)

    def _use(self, path: Path, shard: Any, names: Iterable[str]) -> None:  # noqa: ANN401 - safetensors has no types
        self._used[path] = shard
        self._shards |= dict.fromkeys(names, shard)

    def _free_space(self) -> None:
        """Remove shards until the missing pictures fit, and as long as the folder exceeds the budget."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            free = int(shutil.disk_usage(self._folder).free * _OF_FREE_SPACE)
        except OSError:
            return
        for path in self._folder.glob(".*.tmp"):
            if time.time() - _stat(path)[1] > _STALE_SECONDS:
                _remove(path)
        missing = sum(num_bytes for name, num_bytes in self._wanted.items() if self._lacks(name))
        stats = {path: _stat(path) for path in self._seen}
        total = sum(size for size, _ in stats.values())
        for path in sorted(self._seen, key=lambda path: (path in self._used, stats[path][1], path)):
            if total + (0 if path in self._used else missing) <= self._budget:
                break
            _remove(path)
            shard = self._used.pop(path, None)
            self._shards = {name: one for name, one in self._shards.items() if one is not shard}
            total -= stats[path][0]
            free += stats[path][0]
        self._left = min(self._share_of(total), free // self._num_processes)
        missing = sum(num_bytes for name, num_bytes in self._wanted.items() if self._lacks(name))
        if missing > self._left * self._num_processes:
            self._say(
                f"pictures of {ByteSize(missing).human_readable()} are missing in {self._folder}, and "
                f"{ByteSize(self._left).human_readable()} of them may be kept; the others are decoded whenever they "
                "are needed. Raise runtime.pixels, or free disk space, if that takes too long"
            )

    def _share_of(self, total: int) -> int:
        """Return the bytes that this process may add to a folder of a total size."""
        return max(0, self._budget - total) // self._num_processes

    def _write(self) -> None:
        data = save(dict(sorted(self._pending.items())))
        path = self._folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
        try:
            write_bytes(path, data)
        except OSError as error:
            self._say(f"WARNING: {self._folder}: no more pictures are kept ({error.strerror})")
            self._left = 0
        else:
            self._left -= len(data)
            self._seen.add(path)
            with suppress(OSError, SafetensorError):  # another process has removed it already
                self._use(path, safe_open(path, framework="numpy"), self._pending)
        self._pending, self._pending_bytes = {}, 0

    def _say(self, message: str) -> None:
        print(f"{self._asked_by}: {message}", flush=True)


def _stat(path: Path) -> tuple[int, float]:
    """Return size in bytes and time of last use, in seconds since the epoch; zeros if the file is gone."""
    with suppress(OSError):
        found = path.stat()
        return found.st_size, found.st_mtime
    return 0, 0.0


def _remove(path: Path) -> None:
    with suppress(OSError):  # it is gone, or the disk is read-only
        path.unlink()
