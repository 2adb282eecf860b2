"""Upkeep: what the store holds, whether it is whole, deleting what is not needed. Costs time only: rows come back."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from headstart.artifacts.features import DIGEST_DTYPE, fingerprint
from headstart.base.errors import StoreError
from headstart.engines.cache import damaged_graphs
from headstart.store.canary import NAME, is_whole
from headstart.store.shards import FINGERPRINT_PATTERN, SHARD_PATTERN, SPEC_NAME, read_shard, unpack, write_shard
from headstart.tables.index import USABLE, IndexRow
from headstart.tables.rows import read_rows

_DAY_SECONDS = 86_400
_ENGINES = "engines"
_LEFTOVERS = ("*.tmp", "*.damaged")  # of killed writers, and shards that were set aside


@dataclass(frozen=True)
class StoreSummary:
    """One layer's store.

    Attributes:
        folder: Its name is the fingerprint.
        spec: Backbone, side of the picture, number of views, precision and layer, in words.
        num_shards: Files.
        num_rows: Embeddings; an image that two runs embedded at once counts twice.
        num_bytes: On disk, all files.
        unused_days: Since a run last opened it.
    """

    folder: Path
    spec: str
    num_shards: int
    num_rows: int
    num_bytes: int
    unused_days: float


def summarize(root: Path) -> list[StoreSummary]:
    """Return every layer's store of a root, by spec."""
    summaries = [_summarize(folder) for folder in _stores(root)]
    return sorted(summaries, key=lambda summary: (summary.spec, summary.folder))


def verify(root: Path) -> list[Path]:
    """Read every shard, canary and kept engine; set damaged shards aside, delete what else is damaged; return them.

    Rows whose canary is gone are used again only if the new one has the same bytes: nothing else vouches for them.
    """
    damaged = []
    for folder in _stores(root):
        for path, whole in ((folder / NAME, is_whole(folder / NAME)), (folder / SPEC_NAME, _spec(folder) is not None)):
            if not whole:
                path.unlink(missing_ok=True)
                damaged.append(path)
        damaged += [shard for shard in sorted(folder.glob(SHARD_PATTERN)) if read_shard(shard) is None]
    for graph in damaged_graphs(root / _ENGINES):
        graph.unlink()
        damaged.append(graph)
    return damaged


def prune(root: Path, fingerprint: str | None, unused_days: float | None) -> list[Path]:
    """Delete whole stores, those whose fingerprint begins so or that no run has opened for so long; return them.

    By age, kept engines that no run has used for so long go too.

    Raises:
        StoreError: No store's fingerprint begins so.
    """
    if fingerprint == "":
        raise StoreError("prune: expected the beginning of a fingerprint that `stat` lists; found nothing")
    pruned = []
    for summary in summarize(root):
        matches = fingerprint is not None and summary.folder.name.startswith(fingerprint)
        if matches or (unused_days is not None and summary.unused_days >= unused_days):
            shutil.rmtree(summary.folder)
            pruned.append(summary.folder)
    if fingerprint is not None and not pruned:
        raise StoreError(f"{root}: no store's fingerprint begins with {fingerprint!r}; `stat` lists them")
    if unused_days is not None:
        for file in sorted((root / _ENGINES).glob("*")):
            if _days_since_touched(file) >= unused_days:
                file.unlink()
                pruned.append(file)
    return pruned


def outdated_stores(root: Path) -> list[Path]:
    """Return the stores that an earlier version wrote. Their specs name `taps`; this version does not use them."""
    found = []
    for path in sorted(root.glob(f"{FINGERPRINT_PATTERN}/{SPEC_NAME}")):
        with suppress(OSError, ValueError):
            if "taps" in json.loads(path.read_text(encoding="utf-8")):
                found.append(path.parent)
    return found


def prune_outdated(root: Path) -> list[Path]:
    """Delete the stores that an earlier version wrote, and return them."""
    outdated = outdated_stores(root)
    for folder in outdated:
        shutil.rmtree(folder)
    return outdated


def collect_garbage(root: Path, indexes: Sequence[Path], *, delete: bool) -> dict[str, tuple[int, int]]:
    """Find the rows of images that no index lists, and on request delete them, with what killed runs and damage left.

    A shard with other rows is written anew without them, then deleted: a kill in between loses nothing.

    Args:
        root: Of the stores.
        indexes: The index tables whose images stay.
        delete: Whether to delete; else only counted.

    Returns:
        For each spec the number of rows that no index lists, and the number of all its rows.

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
                    shard.unlink()
        counts[f"{folder.name[:12]}  {summary.spec}"] = (num_unlisted, summary.num_rows)
        if delete and next(folder.glob(SHARD_PATTERN), None) is None:
            shutil.rmtree(folder)
    for pattern in _LEFTOVERS if delete else ():
        for folder in (*_stores(root), root / _ENGINES):
            for file in folder.glob(pattern):
                file.unlink()
    return counts


def _stores(root: Path) -> Iterator[Path]:
    made = {path.parent for name in (SPEC_NAME, NAME) for path in root.glob(f"{FINGERPRINT_PATTERN}/{name}")}
    yield from sorted(made)


def _spec(folder: Path) -> dict[str, Any] | None:
    """Return the spec of a store; None if a kill or damage has taken it (the next run writes it anew)."""
    with suppress(OSError, ValueError):
        spec: dict[str, Any] = json.loads((folder / SPEC_NAME).read_text(encoding="utf-8"))
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
        with safe_open(shard, framework="numpy") as file:
            num_rows: int = file.get_slice("digest").get_shape()[0]
    except SafetensorError:
        return 0  # damaged: `verify` names it
    return num_rows


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _days_since_touched(path: Path) -> float:
    return (time.time() - path.stat().st_mtime) / _DAY_SECONDS
