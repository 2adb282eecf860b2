"""Flipped bits, in every kind of file that the project keeps."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from headstart.artifacts.features import open_features
from headstart.base.errors import FeatureFileError
from headstart.tables.rows import read_rows
from headstart.tables.split import SplitRow
from tests.chaos.project import ChaosProject, read_lock

# Kinds of kept files, by patterns below the root. DVC or the next reader notices a flip, because the time changes or
# the file carries a checksum.
KINDS: Mapping[str, Sequence[str]] = {
    "embeddings of the workspace": ["features/features.h5"],
    "shard of the store": [".cache/embeddings/*/" + "[0-9a-f]" * 64 + ".safetensors"],
    "canary": [".cache/embeddings/*/canary.safetensors"],
    "spec of the store": [".cache/embeddings/*/spec.json"],
    "facts of a network": [".cache/embeddings/engines/*.json"],
    "exported network": [".cache/embeddings/engines/*.onnx"],
    "record of the index": [".cache/index/*.json"],
    "kept pixels": [".cache/pixels/*"],
    "kept activations": [".cache/robustness/*"],
    "checkpoint": [".cache/finetune/**/checkpoint.pt"],
    "kept trials of the head": [".cache/head/*"],
    "timings": [".cache/timings/*"],
    "model bundle": ["models/*/*"],
    "predictions": ["predictions/*.csv"],
    "table": ["data/*.csv", "data/classes.json", "diagnostics/**/*", "plots/**/*"],
    "page": ["reports/*", "models/*.md"],
    "metrics": ["metrics/*"],
    "dvc.lock": ["dvc.lock"],
}
_MOST_FLIPS = 30
NOT_FLIPPED = "data/label_fixes/photos.csv"  # it is the user's own


def flip_kept_file(project: ChaosProject, random: Random) -> str:
    """Flip a bit of a kept file. Its time changes."""
    present = {kind: project.files(*patterns) for kind, patterns in KINDS.items()}
    kind = random.choice([kind for kind, files in present.items() if files])
    path = random.choice([path for path in present[kind] if path != project.root / NOT_FLIPPED])
    return f"flips a bit of the {kind} {path.relative_to(project.root)} {flip(path, random)}"


def rot_features(project: ChaosProject, random: Random) -> str:
    """Flip a bit of the embeddings such that DVC cannot see it, and make the head read them."""
    path = project.root / "features" / "features.h5"
    if not path.exists():
        return "finds no embeddings that could rot"
    where = _rot(path, project, random)
    return f"lets a bit of {path.relative_to(project.root)} rot {where}; {_another_head(project, random)}"


def rot_cached_features(project: ChaosProject, random: Random) -> str:
    """Flip a bit of the embeddings in DVC's cache, bring them into the workspace, and make the head read them."""
    path = cached(project.root, "extract", "features/features.h5")
    if path is None:
        return "finds no embeddings in DVC's cache that could rot"
    where = _rot(path, project, random)
    shutil.rmtree(project.root / "features", ignore_errors=True)
    return f"lets a bit of {path.relative_to(project.root)} rot {where}; {_another_head(project, random)}"


def rot_bundle(project: ChaosProject, random: Random) -> str:
    """Flip a bit of a model such that DVC cannot see it, predict with it, and do what the message says."""
    found = project.files("models/*/*")
    if not found:
        return "finds no model that could rot"
    path = random.choice(found)
    where = flip(path, random, keep_time=True)
    bundle, photos = str(path.parent.relative_to(project.root)), [str(path) for path in project.photos()[:1]]
    run = project.start(
        "python", "-m", "headstart", "predict", bundle, *photos, extra={"HOME": str(project.root.parent)}
    )
    output = run.wait().output
    assert f"Delete {bundle} and run: dvc repro" in output, output
    shutil.rmtree(path.parent)
    return f"lets a bit of {path.relative_to(project.root)} rot {where}, which predict says; deletes {bundle}"


def cached(root: Path, stage: str, output: str) -> Path | None:
    """Return the file of an output in DVC's cache; None if dvc.lock or the cache lacks it."""
    outs = read_lock(root).get(stage, {}).get("outs", [])
    assert isinstance(outs, list)
    for out in outs:
        path = root / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]
        if out["path"] == output and path.is_file():
            return path
    return None


def flip(path: Path, random: Random, *, keep_time: bool = False) -> str:
    """Flip one bit of a file in place, and say which.

    Args:
        path: Path of the file.
        random: Source of random numbers.
        keep_time: Whether time of change and permissions stay, as when a disk rots.
    """
    before = path.stat()
    data = bytearray(path.read_bytes())
    if not data:
        return "(it is empty)"
    place, bit = random.randrange(len(data)), random.randrange(8)
    data[place] ^= 1 << bit
    path.chmod(0o644)
    path.write_bytes(data)
    if keep_time:
        path.chmod(before.st_mode)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return f"(bit {bit} of byte {place} of {len(data)})"


def _rot(path: Path, project: ChaosProject, random: Random) -> str:
    """Flip a bit of a features file that the head reads: other bytes are padding, or rows of images that it drops."""
    whole, mode = path.read_bytes(), path.stat()
    table = project.root / "data/split.csv"
    digests = [row.digest for row in read_rows(table, SplitRow)] if table.exists() else []
    for _ in range(_MOST_FLIPS):
        where = flip(path, random, keep_time=True)
        if not _is_readable(path, digests):
            return where
        path.chmod(0o644)
        path.write_bytes(whole)
        path.chmod(mode.st_mode)
        os.utime(path, ns=(mode.st_atime_ns, mode.st_mtime_ns))
    return "nowhere"


def _is_readable(path: Path, digests: Sequence[str]) -> bool:
    try:
        with open_features(path) as features:
            for layer in features.spec["layers"]:
                features.read(layer, digests or features.digests.astype(str).tolist())
    except FeatureFileError:
        return False
    return True


def _another_head(project: ChaosProject, random: Random) -> str:
    seed = random.randrange(10**6)
    project.edit_params(head={"seed": seed})
    return f"sets head.seed to {seed}"
