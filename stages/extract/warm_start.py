"""The warm start: an empty store takes the rows of a features file in DVC's cache, so that none is computed again."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from headstart.artifacts.features import Features, fingerprint
from headstart.store.shards import SHARD_BYTES, SHARD_PATTERN, layer_spec, write_shard

_OUT = "features/features.h5"


def cached_features(lock: Path) -> Path | None:
    """Return the features file that a dvc.lock names, in DVC's cache; None if it is missing or damaged.

    The file in the workspace is gone while the stage runs, because DVC removes outputs first.
    """
    try:
        stages = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"]
        md5 = next(out["md5"] for out in stages["extract"]["outs"] if out["path"] == _OUT)
        command = [sys.executable, "-m", "dvc", "cache", "dir"]
        cache = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, KeyError, TypeError, StopIteration, YAMLError, subprocess.CalledProcessError):
        return None
    path = Path(cache) / "files" / "md5" / md5[:2] / md5[2:]
    if not path.is_file():
        return None
    with path.open("rb") as file:
        whole = hashlib.file_digest(file, "md5").hexdigest() == md5
    return path if whole else None


def shared_layers(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the layers whose embeddings are the same by both specs."""
    layers = [layer for layer in one["layers"] if layer in other["layers"]]
    return [layer for layer in layers if fingerprint(layer_spec(one, layer)) == fingerprint(layer_spec(other, layer))]


def copy_rows(features: Features, layer: str, folder: Path, canary: str) -> None:
    """Copy the rows of a layer of a features file into its store.

    Args:
        features: Open features file.
        layer: One of its layers, for which its spec agrees with that of the store.
        folder: Folder of the store.
        canary: sha256 of the canary under which the store keeps the rows, 64 hex digits.

    Raises:
        StoreError: The store cannot be written.
    """
    packed = np.frombuffer(bytes.fromhex(features.digests.tobytes().decode()), dtype=np.uint8).reshape(-1, 32)
    start = 0
    for rows in features.blocks(layer, SHARD_BYTES):
        digests = packed[start : start + len(rows)]
        write_shard(folder, digests, rows, np.frombuffer(bytes.fromhex(canary), dtype=np.uint8))
        start += len(rows)


def is_empty(folder: Path) -> bool:
    """Return whether a store has no shard."""
    return next(folder.glob(SHARD_PATTERN), None) is None
