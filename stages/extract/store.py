"""The private store: embeddings made by one recipe, by image digest, so that no image is embedded twice.

It lies outside every DVC output, because DVC deletes outputs before a run. Deleting it costs time, never results.

    <store>/<fingerprint of the spec>/<sha256 of the file>.safetensors    a shard: digest (N, 32), taps/<name>
    <store>/<fingerprint of the spec>/canary.safetensors                  see `stages.extract.canary`

A shard is written under a temporary name, synced and renamed, and never changed after: a killed run loses at most the
shard that it was filling. Its name is its digest, so a damaged one is noticed. Any number of processes may write at
once.
"""

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from stages.core.features import check_finite
from stages.core.files import write_bytes
from stages.core.sections import RuntimeParams

Embeddings = dict[str, NDArray[np.float32]]

# A shard is what a kill can lose and what assembly holds in memory: small enough for both, large enough to be few.
SHARD_BYTES = 2**23
_SHARD_NAME = "[0-9a-f]" * 64 + ".safetensors"


def store_root(runtime: RuntimeParams) -> Path:
    """Return the folder of all stores: $HEADSTART_STORE, else `runtime.store`, else `.cache/embeddings` of the project.

    DVC sets $DVC_ROOT to the main checkout, also for an experiment in a temporary workspace, so all share one.
    """
    moved = os.environ.get("HEADSTART_STORE") or (runtime.store if runtime.store != "auto" else "")
    return Path(moved) if moved else Path(os.environ.get("DVC_ROOT", ".")) / ".cache" / "embeddings"


class Store:
    """The rows of one recipe.

    Args:
        folder: Of this recipe alone; made when the first shard is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._place: dict[str, tuple[Path, int]] = {}
        self._pending: dict[str, Embeddings] = {}
        for path in sorted(folder.glob(_SHARD_NAME)):
            with suppress(FileNotFoundError):  # another process has just set it aside
                data = path.read_bytes()
                if hashlib.sha256(data).hexdigest() == path.stem:
                    self._index(path, load(data)["digest"])
                else:
                    aside = path.rename(path.with_suffix(".damaged"))
                    print(f"extract: WARNING: a damaged shard is set aside and its images embedded anew: {aside}")

    def __contains__(self, digest: str) -> bool:
        """Whether the store has this image, on disk or about to be."""
        return digest in self._place or digest in self._pending

    def __len__(self) -> int:
        """Number of images on disk."""
        return len(self._place)

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
        if sum(rows.nbytes for rows in next(iter(self._pending.values())).values()) * len(self._pending) >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows taken since the last shard as a new one."""
        if not self._pending:
            return
        digests = sorted(self._pending)
        packed = np.frombuffer(bytes.fromhex("".join(digests)), dtype=np.uint8).reshape(len(digests), 32)
        taps = {
            f"taps/{name}": np.stack([self._pending[digest][name] for digest in digests])
            for name in self._pending[digests[0]]
        }
        data = save({"digest": packed, **taps})
        path = self.folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
        write_bytes(path, data)
        self._index(path, packed)
        self._pending.clear()

    def read(self, digests: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Embeddings]]:
        """Give the rows of images that are on disk, shard by shard, so that memory holds one shard at a time.

        Args:
            digests: (N,) in any order.

        Yields:
            Ascending positions in `digests`, and for each tap their rows, float32 (len(positions), views, dim).
        """
        by_shard = defaultdict(list)
        for position, digest in enumerate(digests):
            shard, row = self._place[digest]
            by_shard[shard].append((position, row))
        for shard, pairs in by_shard.items():
            positions, rows = np.array(pairs, dtype=np.intp).T
            tensors = load(shard.read_bytes())
            yield positions, {name[5:]: tensor[rows] for name, tensor in tensors.items() if name != "digest"}

    def _index(self, path: Path, packed: NDArray[np.uint8]) -> None:
        for row, digest in enumerate(packed):
            self._place.setdefault(sys.intern(digest.tobytes().hex()), (path, row))
