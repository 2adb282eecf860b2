"""Seeding: rows for an empty store from a features file that DVC has, so that a pulled result is not made again."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import FeatureFileError
from stages.core.features import fingerprint, open_features
from stages.extract.store.shards import SHARD_BYTES, SHARD_PATTERN, tap_spec, write_shard

_OUT = "features/features.h5"


def cached_features(lock: Path) -> Path | None:
    """Return where DVC's cache has the features file that a dvc.lock names; None if it has not, or not whole.

    The file itself is gone while the stage runs: DVC removes outputs first.
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


def seed(folders: Mapping[str, Path], canaries: Mapping[str, str], spec: Mapping[str, Any], path: Path) -> list[Path]:
    """Copy the rows of a features file into stores that are empty, for every tap that the same recipe made.

    Args:
        folders: Of each tap's store.
        canaries: sha256 of each tap's canary.
        spec: Of this run.
        path: The features file.

    Returns:
        The shards that were written.
    """
    written: list[Path] = []
    try:
        with open_features(path) as features:
            packed = np.frombuffer(bytes.fromhex(features.digests.tobytes().decode()), dtype=np.uint8).reshape(-1, 32)
            for tap in set(features.spec["taps"]) & set(folders):
                if fingerprint(tap_spec(features.spec, tap)) == fingerprint(tap_spec(spec, tap)):
                    canary = np.frombuffer(bytes.fromhex(canaries[tap]), dtype=np.uint8)
                    start = 0
                    for rows in features.blocks(tap, SHARD_BYTES):
                        digests = packed[start : start + len(rows)]
                        written.append(write_shard(folders[tap], digests, rows, canary))
                        start += len(rows)
    except FeatureFileError as error:
        print(f"extract: WARNING: the features file in DVC's cache is of no use: {error}")
    return written


def is_empty(folder: Path) -> bool:
    """Whether a store has no shard."""
    return next(folder.glob(SHARD_PATTERN), None) is None
