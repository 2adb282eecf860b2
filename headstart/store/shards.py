"""Shards: the embeddings of one layer and one spec, by image digest, in immutable files.

They are outside every DVC output, because DVC deletes outputs before a run. Deleting them costs only time: the images
are embedded again, with the same result (within the canary's tolerance if something changed meanwhile).

    <store>/<fingerprint>/<sha256 of the file>.safetensors    a shard: digest (n, 32), embedding (n, views, dim), canary
    <store>/<fingerprint>/spec.json                           the spec, with this layer alone; touched when used
    <store>/<fingerprint>/canary.safetensors                  see `headstart.store.canary`

A shard is written under a temporary name, synced, renamed, and never changed. A killed run loses at most the shard that
it was filling. Its name is its digest, so damage is noticed. Any number of processes may write at once. Each layer has
its own folder, so that another choice of layers embeds only what is missing.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load, save

from headstart.artifacts.features import DIGEST_DTYPE, Rows, check_finite
from headstart.base.errors import StoreError
from headstart.base.files import write_bytes, write_json

# A kill loses a shard, and assembly holds a block in memory: both are small enough for that and large enough to be few.
SHARD_BYTES = 2**23
SHARD_SECONDS = 60
BLOCK_BYTES = 2**25
SPEC_NAME = "spec.json"
FINGERPRINT_PATTERN = "[0-9a-f]" * 64
SHARD_PATTERN = "[0-9a-f]" * 64 + ".safetensors"


class Store:
    """The stored rows of one layer.

    Args:
        folder: Folder of this layer and spec.
        spec: The spec with this layer only.
        canary: sha256 of the canary that this run agrees with. Shards made under another canary are not used.
        wanted: (N,) S64 digests of the images of this run, ascending. Other rows of the store take no memory.
    """

    def __init__(self, folder: Path, spec: Mapping[str, Any], canary: str, wanted: NDArray[np.bytes_]) -> None:
        self._folder, self._layer, self._wanted = folder, spec["layers"][0], wanted
        self._canary = np.frombuffer(bytes.fromhex(canary), dtype=np.uint8)
        self._paths: list[Path] = []
        self._shard = np.full(len(wanted), -1, dtype=np.int32)  # the path that has a wanted row, and the row in it
        self._row = np.zeros(len(wanted), dtype=np.int32)
        self._pending: dict[str, Rows] = {}
        self._last_flush = time.monotonic()
        with suppress(OSError):  # a read-only store may be used too
            if not (folder / SPEC_NAME).exists():
                write_json(folder / SPEC_NAME, dict(spec))
            (folder / SPEC_NAME).touch()
        for path in sorted(folder.glob(SHARD_PATTERN)):
            tensors = read_shard(path)
            if tensors is not None and np.array_equal(tensors["canary"], self._canary):
                self._index(path, tensors["digest"])

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Whether each wanted row is missing on disk, bool (N,)."""
        return self._shard < 0

    def add(self, digests: Sequence[str], rows: Rows) -> None:
        """Add rows. They are on disk when a shard is full, or after `flush`.

        Args:
            digests: (B,) digests of the images.
            rows: (B, views, dim).

        Raises:
            FeatureFileError: A value is not finite.
        """
        check_finite(digests, self._layer, rows)
        self._pending.update(zip(digests, rows, strict=True))
        full = rows[:1].nbytes * len(self._pending) >= SHARD_BYTES
        if full or time.monotonic() - self._last_flush > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows added since the last shard as a new shard."""
        self._last_flush = time.monotonic()
        if self._pending:
            digests = sorted(self._pending)
            packed = np.frombuffer(bytes.fromhex("".join(digests)), dtype=np.uint8).reshape(len(digests), 32)
            path = write_shard(self._folder, packed, np.stack([self._pending[name] for name in digests]), self._canary)
            self._index(path, packed)
            self._pending.clear()

    def read(self, positions: NDArray[np.intp]) -> Rows:
        """Return wanted rows that are on disk, (len(positions), views, dim).

        Raises:
            StoreError: A shard was removed after the store was opened.
        """
        shards = self._shard[positions]
        rows: Rows | None = None
        for shard in np.unique(shards):
            chosen = shards == shard
            inside = self._row[positions[chosen]]
            first, last = int(inside.min()), int(inside.max())
            try:
                with safe_open(self._paths[shard], framework="numpy") as file:
                    part = file.get_slice("embedding")[first : last + 1]
            except FileNotFoundError as error:
                raise StoreError(f"{self._paths[shard]}: was removed while this run needed it. Run again.") from error
            if rows is None:
                rows = np.empty((len(positions), *part.shape[1:]), dtype=part.dtype)
            rows[chosen] = part[inside - first]
        assert rows is not None, "no positions"
        return rows

    def blocks(self) -> Iterator[Rows]:
        """Give all wanted rows in order, a block at a time. Memory holds one block and parts of shards."""
        row_bytes = self.read(np.zeros(1, dtype=np.intp)).nbytes
        step = max(1, BLOCK_BYTES // row_bytes)
        for start in range(0, len(self._wanted), step):
            yield self.read(np.arange(start, min(start + step, len(self._wanted))))

    def _index(self, path: Path, packed: NDArray[np.uint8]) -> None:
        digests = unpack(packed)
        places = np.searchsorted(self._wanted, digests)
        found = places < len(self._wanted)
        found[found] = self._wanted[places[found]] == digests[found]
        found[found] = self._shard[places[found]] < 0  # of equal rows the first is used
        self._shard[places[found]] = len(self._paths)
        self._row[places[found]] = np.flatnonzero(found)
        self._paths.append(path)


def write_shard(folder: Path, packed: NDArray[np.uint8], rows: Rows, canary: NDArray[np.uint8]) -> Path:
    """Write a shard and return its path.

    Args:
        folder: Folder of the layer.
        packed: (n, 32) digests as bytes, ascending.
        rows: (n, views, dim).
        canary: (32,) sha256 of the canary under which they were made.

    Raises:
        StoreError: The disk is full or read-only.
    """
    data = save({"digest": packed, "embedding": rows, "canary": canary})
    path = folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    try:
        write_bytes(path, data)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written to ({error.strerror}). Finished shards are kept. Free some space, or set "
            "another folder in runtime.store or HEADSTART_STORE, and run again."
        ) from error
    return path


def read_shard(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return the tensors of a shard. A damaged shard is set aside, and the result is None."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == path.stem:
            return load(data)
        aside = path.rename(path.with_suffix(".damaged"))
    except FileNotFoundError:
        return None
    except OSError as error:  # a read-only disk
        print(f"extract: WARNING: {path} is damaged and cannot be set aside ({error.strerror})")
        return None
    print(f"extract: WARNING: a damaged shard is set aside and its images embedded anew: {aside}")
    return None


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return digests given as bytes (n, 32) as hex digits, (n,) S64."""
    return np.frombuffer(packed.tobytes().hex().encode(), dtype=DIGEST_DTYPE)


def layer_spec(spec: Mapping[str, Any], layer: str) -> dict[str, Any]:
    """Return a spec with only one of its layers: the key of that layer's store."""
    return {**spec, "layers": [layer]}
