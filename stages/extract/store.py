"""The private store: embeddings made by one recipe, by image digest, so that no image is embedded twice.

It lies outside every DVC output, because DVC deletes outputs before a run. Deleting it costs time; the embeddings made
anew are the same, within the canary's tolerance if something changed meanwhile.

    <store>/<fingerprint of the spec>/<sha256 of the file>.safetensors    a shard: digest, canary, taps/<name>
    <store>/<fingerprint of the spec>/canary.safetensors                  see `stages.extract.canary`

A shard is written under a temporary name, synced and renamed, and never changed after: a killed run loses at most the
shard that it was filling. Its name is its digest, so a damaged one is noticed. Any number of processes may write at
once.
"""

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from stages.core.errors import StoreError
from stages.core.features import check_finite
from stages.core.files import write_bytes
from stages.core.sections import RuntimeParams

Embeddings = dict[str, NDArray[np.float32]]

# A shard is what a kill can lose and what assembly holds in memory: small enough for both, large enough to be few.
SHARD_BYTES = 2**23
SHARD_SECONDS = 60
_SHARD_NAME = "[0-9a-f]" * 64 + ".safetensors"


def store_root(runtime: RuntimeParams) -> Path:
    """Return the folder of all stores: $HEADSTART_STORE, else `runtime.store`, else `.cache/embeddings` of the project.

    DVC sets $DVC_ROOT to the main checkout, also for an experiment in a temporary workspace, so all share one.
    """
    chosen = os.environ.get("HEADSTART_STORE") or (".cache/embeddings" if runtime.store == "auto" else runtime.store)
    return Path(os.environ.get("DVC_ROOT", ".")) / Path(chosen).expanduser()


class Store:
    """The rows of one recipe.

    Args:
        folder: Of this recipe alone.
        canary: sha256 of the canary that this run agrees with; shards made under another one are not used.
        wanted: Images of this run; the store's other rows take no memory.
    """

    def __init__(self, folder: Path, canary: str, wanted: Collection[str]) -> None:
        self._folder, self._canary = folder, np.frombuffer(bytes.fromhex(canary), dtype=np.uint8)
        self._wanted = frozenset(wanted)
        self._last_flush = time.monotonic()
        self._place: dict[str, tuple[Path, int]] = {}
        self._pending: dict[str, Embeddings] = {}
        for path in sorted(folder.glob(_SHARD_NAME)):
            with suppress(FileNotFoundError):  # another process has just set it aside
                data = path.read_bytes()
                if hashlib.sha256(data).hexdigest() == path.stem:
                    tensors = load(data)
                    if np.array_equal(tensors["canary"], self._canary):
                        self._index(path, tensors["digest"])
                else:
                    aside = path.rename(path.with_suffix(".damaged"))
                    print(f"extract: WARNING: a damaged shard is set aside and its images embedded anew: {aside}")

    def __contains__(self, digest: str) -> bool:
        """Whether the store has this image, on disk or about to be."""
        return digest in self._place or digest in self._pending

    def add(self, digests: Sequence[str], embeddings: Mapping[str, NDArray[np.float32]]) -> None:
        """Take new rows; they are on disk once a shard is full, or after `flush`.

        Args:
            digests: (B,) the images.
            embeddings: For each tap float32 (B, views, dim).

        Raises:
            FeatureFileError: A value is not finite.
        """
        check_finite(digests, embeddings)
        for row, digest in enumerate(digests):
            self._pending[digest] = {name: rows[row] for name, rows in embeddings.items()}
        row_bytes = sum(row.nbytes for row in self._pending[digests[0]].values())
        if row_bytes * len(self._pending) >= SHARD_BYTES or time.monotonic() - self._last_flush > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows taken since the last shard as a new one."""
        self._last_flush = time.monotonic()
        if not self._pending:
            return
        digests = sorted(self._pending)
        packed = np.frombuffer(bytes.fromhex("".join(digests)), dtype=np.uint8).reshape(len(digests), 32)
        taps = {
            f"taps/{name}": np.stack([self._pending[digest][name] for digest in digests])
            for name in self._pending[digests[0]]
        }
        data = save({"digest": packed, "canary": self._canary, **taps})
        path = self._folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
        write_bytes(path, data)
        self._index(path, packed)
        self._pending.clear()

    def read(self, digests: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Embeddings]]:
        """Give the rows of images that are on disk, shard by shard, so that memory holds one shard at a time.

        Args:
            digests: (N,) in any order.

        Yields:
            Ascending positions in `digests`, and for each tap their rows, float32 (len(positions), views, dim).

        Raises:
            StoreError: A shard has been removed since the store was opened.
        """
        by_shard = defaultdict(list)
        for position, digest in enumerate(digests):
            shard, row = self._place[digest]
            by_shard[shard].append((position, row))
        for shard, pairs in by_shard.items():
            positions, rows = np.array(pairs, dtype=np.intp).T
            try:
                tensors = load(shard.read_bytes())
            except FileNotFoundError as error:
                raise StoreError(f"{shard}: was removed while this run needed it. Run again.") from error
            taps = [name for name in tensors if name.startswith("taps/")]
            yield positions, {name.removeprefix("taps/"): tensors[name][rows] for name in taps}

    def _index(self, path: Path, packed: NDArray[np.uint8]) -> None:
        for row, digest in enumerate(packed):
            name = digest.tobytes().hex()
            if name in self._wanted:
                self._place.setdefault(name, (path, row))
