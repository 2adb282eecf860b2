"""Outputs: the files of the stages that the page shows, whether they have changed, and whether they belong together."""

from dataclasses import dataclass
from pathlib import Path

from headstart.base.errors import DataError
from headstart.base.files import read_bytes
from headstart.revisions.lock import LOCK, parse_lock

# What `project` reads.
PATHS = (
    "data/classes.json",
    "data/index.csv",
    "data/pool.csv",
    "data/split.csv",
    "diagnostics/head/label_suspects.csv",
    "diagnostics/head/near_duplicates.csv",
    "diagnostics/head/next_to_label.csv",
    "diagnostics/relabelled.csv",
    "predictions/finetune.csv",
    "predictions/head.csv",
    "predictions/head_out_of_fold.csv",
)
# The stages that a head needs. Without the others, only a queue is empty.
_STAGES = ("index", "split", "extract", "head")


@dataclass(frozen=True)
class Stamps:
    """Sizes and times of files.

    Attributes:
        outputs: Changes whenever a stage writes an output that the page shows.
        lock: Changes whenever DVC notes that a stage has ended.
    """

    outputs: tuple[tuple[int, ...], ...]
    lock: tuple[int, ...]


def stamps(root: Path) -> Stamps:
    """Return the stamps of now."""
    return Stamps(tuple(_stamp(root / path) for path in PATHS), _stamp(root / LOCK))


def find_gap(root: Path) -> str | None:
    """Return a sentence why the outputs do not belong together; None if they do, or if DVC has noted nothing.

    A run that is going on, or was killed, leaves outputs that are missing, or newer than those of the stages after
    them. Sizes and DVC's notes show it; no file is read.
    """
    try:
        stages = parse_lock(read_bytes(root / LOCK))
    except FileNotFoundError:
        return None
    except DataError:  # somebody merges it, say
        return _sentence(f"{LOCK} cannot be read")
    listed = {name: stages[name] for name in _STAGES if name in stages}
    outs = {out.path: out for stage in listed.values() for out in stage.outs}
    for name, stage in listed.items():
        for out in stage.outs:
            if _size(root / out.path) != out.size:
                return _sentence(f"{out.path} is not what `{name}` wrote when it ended last")
        for dep in stage.deps:
            if dep.path in outs and dep.md5 != outs[dep.path].md5:
                return _sentence(f"`{name}` has not read the {dep.path} of now")
    return None


def _sentence(reason: str) -> str:
    return f"The results on the disk are incomplete: {reason}. If no run is going on, retrain, or run: dvc repro"


def _size(path: Path) -> int | None:
    """Return the bytes of a file, or of all files below a folder; None if there is nothing."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return path.stat().st_size
    except OSError:  # it is being replaced
        return None


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns
