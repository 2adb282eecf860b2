"""Upkeep of the stores: list, check, delete. Deleting costs only time, because a later run computes the rows again."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from headstart.artifacts.features import DIGEST_DTYPE, fingerprint
from headstart.base.errors import StoreError
from headstart.base.files import check_regular, read_bytes
from headstart.base.tensor_files import TensorFileError, one_error
from headstart.engines.cache import damaged_graphs
from headstart.store.canary import NAME, is_whole
from headstart.store.shards import FINGERPRINT_PATTERN, SHARD_PATTERN, SPEC_NAME, read_shard, unpack, write_shard
from headstart.tables.index import USABLE, IndexRow
from headstart.tables.rows import read_rows

_DAY_SECONDS = 86_400
_ENGINES = "engines"
_LEFTOVERS = ("*.tmp", "*.damaged")  # files of killed runs, and shards that were set aside


@dataclass(frozen=True)
class StoreSummary:
    """What one layer's store holds.

    Attributes:
        folder: Folder of the store. Its name is the fingerprint of the spec.
        spec: Backbone, side of the input, number of views, precision and layer, in words.
        num_shards: Number of shards.
        num_rows: Number of embeddings. An image that two runs embedded at once counts twice.
        num_bytes: Bytes of all files on disk.
        unused_days: Days since a run last opened the store.
    """

    folder: Path
    spec: str
    num_shards: int
    num_rows: int
    num_bytes: int
    unused_days: float


def summarize(root: Path) -> list[StoreSummary]:
    """Return a summary of every layer's store below a folder, sorted by spec."""
    summaries = [_summarize(folder) for folder in _stores(root)]
    return sorted(summaries, key=lambda summary: (summary.spec, summary.folder))


def verify(root: Path) -> list[Path]:
    """Read every shard, canary, spec and exported network. Set damaged shards aside, and delete other damaged files.

    Rows whose canary was deleted are used again only if the new canary has the same bytes.

    Args:
        root: Folder of all stores.

    Returns:
        Paths of the damaged files.
    """
    damaged = []
    for folder in _stores(root):
        for path, whole in ((folder / NAME, is_whole(folder / NAME)), (folder / SPEC_NAME, _spec(folder) is not None)):
            if not whole:
                _delete(path)
                damaged.append(path)
        damaged += [shard for shard in sorted(folder.glob(SHARD_PATTERN)) if read_shard(shard) is None]
    for graph in damaged_graphs(root / _ENGINES):
        _delete(graph)
        damaged.append(graph)
    return damaged


def prune(root: Path, fingerprint: str | None, unused_days: float | None) -> list[Path]:
    """Delete whole stores, by fingerprint or by age. By age, exported networks are deleted too.

    Args:
        root: Folder of all stores.
        fingerprint: Beginning of the fingerprints of the stores to delete; None to choose by age.
        unused_days: Smallest age to delete: days since a run last used a store or network; None to choose by
            fingerprint.

    Returns:
        Paths of what was deleted.

    Raises:
        StoreError: `fingerprint` is empty, or no store's fingerprint begins with it.
    """
    if fingerprint == "":
        raise StoreError("prune: found an empty fingerprint; expected the beginning of one that `stat` lists")
    pruned = []
    for summary in summarize(root):
        matches = fingerprint is not None and summary.folder.name.startswith(fingerprint)
        if matches or (unused_days is not None and summary.unused_days >= unused_days):
            _delete(summary.folder)
            pruned.append(summary.folder)
    if fingerprint is not None and not pruned:
        raise StoreError(f"{root}: no store's fingerprint begins with {fingerprint!r}; `stat` lists them")
    if unused_days is not None:
        for file in sorted((root / _ENGINES).glob("*")):
            if _days_since_touched(file) >= unused_days:
                _delete(file)
                pruned.append(file)
    return pruned


def outdated_stores(root: Path) -> list[Path]:
    """Return the folders of the stores that an earlier version wrote. Their specs name `taps`. They are not used."""
    found = []
    for path in sorted(root.glob(f"{FINGERPRINT_PATTERN}/{SPEC_NAME}")):
        with suppress(OSError, ValueError):
            if "taps" in json.loads(read_bytes(path)):
                found.append(path.parent)
    return found


def prune_outdated(root: Path) -> list[Path]:
    """Delete the stores that an earlier version wrote, and return their folders."""
    outdated = outdated_stores(root)
    for folder in outdated:
        _delete(folder)
    return outdated


def collect_garbage(root: Path, indexes: Sequence[Path], *, delete: bool) -> dict[str, tuple[int, int]]:
    """Count the rows of images that no index lists. On request, delete them and the files that killed runs left.

    If a shard has other rows too, they are first written as a new shard, so that a killed run loses nothing.

    Args:
        root: Folder of all stores.
        indexes: Index tables whose images stay.
        delete: Whether to delete. Otherwise rows are only counted.

    Returns:
        For each spec, in words, the number of rows that no index lists and the number of all rows.

    Raises:
        TableError: An index cannot be read.
    """
    listed = {row.digest for index in indexes for row in read_rows(index, IndexRow) if row.status in USABLE}
    wanted = np.array(sorted(listed), dtype=DIGEST_DTYPE)
    counts: dict[str, tuple[int, int]] = {}
    for summary in summarize(root):
        folder, num_unlisted = summary.folder, 0
        for shard in sorted(folder.glob(SHARD_PATTERN)):
            tensors = read_shard(shard)
            if tensors is not None:
                keep = np.isin(unpack(tensors["digest"]), wanted)
                num_unlisted += int((~keep).sum())
                if delete and not keep.all():
                    if keep.any():
                        write_shard(folder, tensors["digest"][keep], tensors["embedding"][keep], tensors["canary"])
                    _delete(shard)
        counts[f"{folder.name[:12]}  {summary.spec}"] = (num_unlisted, summary.num_rows)
        if delete and next(folder.glob(SHARD_PATTERN), None) is None:
            _delete(folder)
    for pattern in _LEFTOVERS if delete else ():
        for folder in (*_stores(root), root / _ENGINES):
            for file in folder.glob(pattern):
                _delete(file)
    return counts


def _delete(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _stores(root: Path) -> Iterator[Path]:
    made = {path.parent for name in (SPEC_NAME, NAME) for path in root.glob(f"{FINGERPRINT_PATTERN}/{name}")}
    yield from sorted(made)


def _spec(folder: Path) -> dict[str, Any] | None:
    """Return the spec of a store; None if it is missing or damaged. The next run then writes it again."""
    with suppress(OSError, ValueError):
        spec: dict[str, Any] = json.loads(read_bytes(folder / SPEC_NAME))
        if fingerprint(spec) == folder.name:
            return spec
    return None


def _summarize(folder: Path) -> StoreSummary:
    spec = _spec(folder)
    shards = sorted(folder.glob(SHARD_PATTERN))
    return StoreSummary(
        folder=folder,
        spec="its spec.json is damaged" if spec is None else _in_words(spec),
        num_shards=len(shards),
        num_rows=sum(_num_rows(shard) for shard in shards),
        num_bytes=_num_bytes(folder),
        unused_days=_days_since_touched(folder / SPEC_NAME if spec else folder),
    )


def _in_words(spec: Mapping[str, Any]) -> str:
    side, views = f"{spec['transform']['crop_px']} px", f"{len(spec['views'])} views"
    layer = spec["layers"][0] if "layers" in spec else "of an earlier version"
    return " ".join([spec["backbone"], side, views, spec["precision"], layer])


def _num_rows(shard: Path) -> int:
    try:
        check_regular(shard)
        with one_error(), safe_open(shard, framework="numpy") as file:
            num_rows: int = file.get_slice("digest").get_shape()[0]
    except (OSError, TensorFileError):
        return 0  # damaged: `verify` names it
    return num_rows


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _days_since_touched(path: Path) -> float:
    return (time.time() - path.stat().st_mtime) / _DAY_SECONDS
