"""Shards: the embeddings of one layer and one spec, by image digest, in immutable files.

Shards are outside every DVC output, because DVC deletes outputs before a run. Deleting shards costs only time: the
images are embedded again, with the same result (within the canary's tolerance if something changed meanwhile).

    <root>/<fingerprint>/<sha256 of the file>.safetensors    a shard: digest uint8 (n, 32), embedding (n, views, dim)
                                                             float32 or float16, canary uint8 (32,)
    <root>/<fingerprint>/spec.json                           the spec, with this layer alone; touched by every run
    <root>/<fingerprint>/canary.safetensors                  see `headstart.store.canary`

A shard is written under a temporary name, synced, renamed, and never changed. A killed run loses at most the shard that
it was filling. The name of a shard is its digest, so damage is noticed. Any number of processes may write at once. Each
layer has its own folder, so that another choice of layers embeds only what is missing.
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
from safetensors.numpy import save

from headstart.artifacts.features import DIGEST_DTYPE, Rows, check_finite
from headstart.base.errors import StoreError
from headstart.base.files import NotRegularError, read_bytes, write_bytes, write_json
from headstart.base.tensor_files import TensorFileError, parse_tensors

# A kill loses at most a shard or a minute, and assembly holds a block in memory. Smaller ones would be too many.
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
        canary: sha256 of the canary that this run agrees with, in hex digits. Shards made under another canary are not
            used.
        wanted: sha256 of the images of this run in hex digits, (N,) S64, ascending. Other rows of the store take no
            memory.
    """

    def __init__(self, folder: Path, spec: Mapping[str, Any], canary: str, wanted: NDArray[np.bytes_]) -> None:
        self._folder, self._layer, self._wanted = folder, spec["layers"][0], wanted
        self._canary = np.frombuffer(bytes.fromhex(canary), dtype=np.uint8)
        self._paths: list[Path] = []
        # For each wanted row, the position in _paths of the shard that has it, or -1, and the row number in that shard.
        self._shard = np.full(len(wanted), -1, dtype=np.int32)
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
        """Return which of the wanted rows are not on disk, bool (N,)."""
        return self._shard < 0

    def add(self, digests: Sequence[str], rows: Rows) -> None:
        """Add rows. They are written when they fill a shard, after a minute, or by `flush`.

        Args:
            digests: (B,) sha256 of the images, in hex digits.
            rows: Embeddings (B, views, dim), in the precision of the spec.

        Raises:
            FeatureFileError: A value is not finite.
            StoreError: As for `write_shard`.
        """
        check_finite(digests, self._layer, rows)
        self._pending.update(zip(digests, rows, strict=True))
        full = rows[:1].nbytes * len(self._pending) >= SHARD_BYTES
        if full or time.monotonic() - self._last_flush > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that were added since the last shard as a new shard.

        Raises:
            StoreError: As for `write_shard`.
        """
        self._last_flush = time.monotonic()
        if self._pending:
            digests = sorted(self._pending)
            packed = np.frombuffer(bytes.fromhex("".join(digests)), dtype=np.uint8).reshape(len(digests), 32)
            path = write_shard(self._folder, packed, np.stack([self._pending[name] for name in digests]), self._canary)
            self._index(path, packed)
            self._pending.clear()

    def read(self, positions: NDArray[np.intp]) -> Rows:
        """Return some of the wanted rows, (B, views, dim), in the precision of the spec.

        Args:
            positions: (B,) positions in `wanted`, at least one, in any order. Their rows must be on disk.

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
        """Give all wanted rows in order, in blocks (B, views, dim). All of them must be on disk."""
        row_bytes = self.read(np.zeros(1, dtype=np.intp)).nbytes
        step = max(1, BLOCK_BYTES // row_bytes)
        for start in range(0, len(self._wanted), step):
            yield self.read(np.arange(start, min(start + step, len(self._wanted))))

    def _index(self, path: Path, packed: NDArray[np.uint8]) -> None:
        digests = unpack(packed)
        places = np.searchsorted(self._wanted, digests)
        found = places < len(self._wanted)
        found[found] = self._wanted[places[found]] == digests[found]
        found[found] = self._shard[places[found]] < 0  # if several shards have a row, the first is used
        self._shard[places[found]] = len(self._paths)
        self._row[places[found]] = np.flatnonzero(found)
        self._paths.append(path)


def write_shard(folder: Path, packed: NDArray[np.uint8], rows: Rows, canary: NDArray[np.uint8]) -> Path:
    """Write a shard and return its path.

    Args:
        folder: Folder of the layer.
        packed: sha256 of the images as bytes, uint8 (n, 32), ascending.
        rows: Embeddings (n, views, dim), float32 or float16.
        canary: sha256 as bytes, uint8 (32,), of the canary under which the rows were made.

    Raises:
        StoreError: The file cannot be written, because the disk is full or read-only.
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
    """Return the tensors of a shard by name; None if it is missing or damaged. A damaged one is renamed `*.damaged`.

    Damaged are also files whose name is right but whose content is no shard.
    """
    try:
        data = b""
        with suppress(NotRegularError):  # it is set aside too
            data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() == path.stem:
            with suppress(TensorFileError):
                tensors = parse_tensors(data)
                if _is_shard(tensors):
                    return tensors
        aside = path.rename(path.with_suffix(".damaged"))
    except FileNotFoundError:
        return None
    except OSError as error:  # a read-only disk
        print(f"extract: WARNING: {path} is damaged and cannot be set aside ({error.strerror})")
        return None
    print(f"extract: WARNING: a damaged shard is set aside and its images are embedded again: {aside}")
    return None


def _is_shard(tensors: Mapping[str, NDArray[Any]]) -> bool:
    if set(tensors) != {"digest", "embedding", "canary"}:
        return False
    digests, rows, canary = tensors["digest"], tensors["embedding"], tensors["canary"]
    return (
        digests.dtype == canary.dtype == np.uint8
        and digests.shape[1:] == canary.shape == (32,)
        and rows.dtype in (np.float32, np.float16)
        and rows.ndim == 3
        and len(rows) == len(digests)
        and bool(np.isfinite(rows).all())
    )


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return digests as hex digits, (n,) S64, from digests as bytes, uint8 (n, 32)."""
    return np.frombuffer(packed.tobytes().hex().encode(), dtype=DIGEST_DTYPE)


def layer_spec(spec: Mapping[str, Any], layer: str) -> dict[str, Any]:
    """Return the spec of one layer's store: the spec of a run, with only this layer."""
    return {**spec, "layers": [layer]}
