"""The oracle: a clean clone of the same files, with empty caches, must give the same dvc.lock and the same bytes.

What it cannot judge, and so no action does. DVC takes a file for unchanged if size, time and inode are, and trusts its
own cache. So these go unnoticed where the file carries no checksum of ours:

- a flipped bit in a photo or in a table of the workspace whose time of change stays the same (bit rot),
- a flipped bit of `features.h5` in what nobody reads: the padding of HDF5, and rows of images that are not used,
- a flipped bit in DVC's cache of a table, a plot or a page.

A mistake in a section of params.yaml that no stage of the target reads is seen only when some stage runs, in a clean
clone always. So the loop looks for one itself when the project says that all is well.

Two changes of params give other last bits by design: `backbone.layers` (`decisions.md`, one store per layer) and
`runtime.engine`. The files below `.cache/timings` are no results.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from tests.chaos.project import ChaosProject, outputs_of, read_lock


def ask(project: ChaosProject, clone: Path, engines: Path, target: str) -> list[str]:
    """Run the pipeline in a clean clone, and compare.

    Args:
        project: The project. It has run `target`.
        clone: Folder for the clone. What is there is replaced.
        engines: Exported networks that the clone may use, because an export takes long. It belongs to the oracle.
        target: Stage up to which the pipeline ran.

    Returns:
        A line for each difference.
    """
    make_clone(project.root, clone)
    (clone / ".cache" / "embeddings").mkdir(parents=True)
    (clone / ".cache" / "embeddings" / "engines").symlink_to(engines)
    done = ChaosProject(clone).finish("dvc", "repro", target)
    if done.returncode:
        return [f"a clean clone fails where the project succeeds: {done.output[-2000:]}"]
    return list(differences(project.root, clone))


def make_clone(root: Path, clone: Path) -> None:
    """Copy a project as a fresh clone has it: with its history and the files of the working tree, without results."""
    shutil.rmtree(clone, ignore_errors=True)
    results = set(declared_outputs(root))

    def left_out(folder: str, names: list[str]) -> set[str]:
        place = Path(folder).relative_to(root)
        paths = {name: (place / name).as_posix() for name in names}
        noise = (".cache", ".dvc/cache", ".dvc/tmp", "dvc.lock", "dvc_plots")
        return {name for name, path in paths.items() if path in results or path in noise or name == "__pycache__"}

    shutil.copytree(root, clone, symlinks=True, ignore=left_out)


def declared_outputs(root: Path) -> Iterator[str]:
    """Give the paths of all outputs of dvc.yaml."""
    for stage in YAML(typ="safe").load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values():
        content = stage.get("do", stage)
        outs = [*content["outs"], *[next(iter(metric)) for metric in content.get("metrics", [])]]
        for item in stage.get("foreach", [""]):
            yield from (out.replace("${item}", item) for out in outs)


def differences(root: Path, clone: Path) -> Iterator[str]:
    """Give a line for each stage that ran in the clone and whose entry in dvc.lock, or whose output, differs."""
    ours, theirs = read_lock(root), read_lock(clone)
    for name, stage in theirs.items():
        if ours.get(name) != stage:
            yield f"dvc.lock: {name}: {_first_difference(ours.get(name), stage)}"
        for output in outputs_of(stage):
            yield from _compare(root, clone, output)


def _compare(root: Path, clone: Path, output: str) -> Iterator[str]:
    there = clone / output
    names = [output] if there.is_file() else _names(clone, output) | _names(root, output)
    for name in sorted(names):
        one, other = root / name, clone / name
        if not one.is_file() or not other.is_file():
            yield f"{name}: exists only in {'the clean clone' if other.is_file() else 'the project'}"
        elif one.read_bytes() != other.read_bytes():
            yield f"{name}: has other bytes than in the clean clone"


def _names(root: Path, folder: str) -> set[str]:
    return {path.relative_to(root).as_posix() for path in (root / folder).rglob("*") if path.is_file()}


def _first_difference(found: object, expected: object, place: str = "") -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}, key=str):
            if found.get(key) != expected.get(key):
                return _first_difference(found.get(key), expected.get(key), f"{place}.{key}")
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            if one != other:
                name = one.get("path", number) if isinstance(one, dict) else number
                return _first_difference(one, other, f"{place}.{name}")
    return f"{place} is {found!r}; in the clean clone {expected!r}"
