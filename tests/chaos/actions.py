"""Actions between two runs: what people, editors, disks and clocks do to a project. Each says what it did."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from headstart.tables.label_fixes import LabelFix, read_label_fixes, write_label_fixes
from tests.chaos.flips import flip_kept_file, rot_bundle, rot_cached_features, rot_features
from tests.chaos.project import ChaosProject
from tests.conftest import COLOURS

Action = Callable[[ChaosProject, Random], str]
_FEWEST, _MOST = 9, 24  # photos of a class
_DAY_SECONDS = 86_400
FIXES = "data/label_fixes/photos.csv"
_CODE = (
    *("headstart/tables/evaluate.py", "stages/compare/advice.py", "stages/evaluate/metrics.py", "stages/head/fit.py"),
    *("stages/finetune/trainer.py", "stages/index/losses.py", "stages/report/figures.py", "stages/split/fixes.py"),
)
# Values of params that cost little. `backbone.layers` is left out: see `tests.chaos.oracle`.
_PARAMS: Mapping[str, Mapping[str, list[Any]]] = {
    "head": {"c": ["auto", 0.01, 1.0], "seed": [0, 1, 2], "folds": [3, 4], "kind": ["auto", "logistic", "ridge"]},
    "split": {"seed": [0, 1, 2], "method": ["auto", "hash"], "conflicts": ["fail", "drop"]},
    "extract": {"views": [1, 2], "seed": [0, 1]},
    "finetune": {"seed": [0, 1], "epochs": [0, 1], "unfreeze": ["all", "head"], "refit": ["none", "all"]},
    "index": {"max_pixels": [10**6, 10**7]},
    "intervals": {"seed": [0, 1]},
    "report": {"title": ["One", "Two"]},
    "robustness": {"seed": [0, 1]},
    "runtime": {"workers": [1, 2, 3], "batch": [2, 4, 8], "pixels": ["0", "10GiB"], "memory": ["256MiB", "1GiB"]},
}
_WRONG: Mapping[str, Mapping[str, Any]] = {
    "head": {"folds": 1},
    "index": {"max_pixels": "many"},
    "finetune": {"epoch": 3},
    "split": {"test_fraction": 2},
}


def add_photo(project: ChaosProject, random: Random) -> str:
    """Add a new photo to a class that has room."""
    name = random.choice([name for name in project.classes() if len(project.photos(name)) < _MOST] or ["red"])
    path = project.root / "data/photos" / name / f"new{random.randrange(10**6)}.{random.choice(['png', 'jpg'])}"
    _write_photo(path, random)
    return f"adds {path.relative_to(project.root)}"


def edit_photo(project: ChaosProject, random: Random) -> str:
    """Replace the content of a photo."""
    path = random.choice(project.photos())
    _write_photo(path, random)
    return f"paints {path.relative_to(project.root)} anew"


def truncate_photo(project: ChaosProject, random: Random) -> str:
    """Cut a photo off, as a broken copy does."""
    path = random.choice(project.photos())
    data = path.read_bytes()
    path.write_bytes(data[: random.randrange(len(data) + 1)])
    return f"cuts {path.relative_to(project.root)} off at {path.stat().st_size} of {len(data)} bytes"


def remove_photo(project: ChaosProject, random: Random) -> str:
    """Delete a photo of a class that has enough, or many at once."""
    num = random.choice([1, 1, 2, 8])
    large = [path for name in project.classes() for path in project.photos(name)[_FEWEST:]]
    chosen = random.sample(large, min(num, len(large)))
    for path in chosen:
        path.unlink()
    return f"deletes {len(chosen)} photos: {', '.join(path.name for path in chosen)}"


def move_photo(project: ChaosProject, random: Random) -> str:
    """Give a photo another name or class."""
    name = random.choice([name for name in project.classes() if len(project.photos(name)) > _FEWEST] or ["red"])
    path = random.choice(project.photos(name))
    target = path.parent.parent / random.choice(project.classes()) / f"moved{random.randrange(10**6)}{path.suffix}"
    path.rename(target)
    return f"moves {path.relative_to(project.root)} to {target.parent.name}/{target.name}"


def copy_photo(project: ChaosProject, random: Random) -> str:
    """Copy a photo, sometimes into another class, where its label contradicts."""
    path = random.choice(project.photos())
    classes = [path.parent.name, path.parent.name, *project.classes()]
    target = path.parent.parent / random.choice(classes) / f"copy{random.randrange(10**6)}{path.suffix}"
    shutil.copyfile(path, target)
    return f"copies {path.relative_to(project.root)} to {target.parent.name}/{target.name}"


def add_junk(project: ChaosProject, random: Random) -> str:
    """Put something that is no image among the photos."""
    name = random.choice(["broken.png", "empty.jpg", "notes.txt", ".hidden", "readme", "late.webp"])
    path = project.root / "data/photos" / random.choice(project.classes()) / name
    path.write_bytes(b"" if name == "empty.jpg" else random.randbytes(200))
    return f"adds {path.relative_to(project.root)}, which is no image"


def fix_label(project: ChaosProject, random: Random) -> str:
    """Add a label fix, sometimes a wrong one."""
    path = project.root / FIXES
    image = random.choice(project.photos()).relative_to(project.root / "data/photos").as_posix()
    image = random.choice([image, image, image, "red/none.jpg"])
    fix = LabelFix("", image, random.choice([*project.classes(), "drop", "grey"]), "chaos")
    write_label_fixes(path, [*read_label_fixes(path), fix])
    return f"adds the label fix {fix.path} {fix.label}"


def edit_params(project: ChaosProject, random: Random) -> str:
    """Set a param to another allowed value."""
    section = random.choice(sorted(_PARAMS))
    key = random.choice(sorted(_PARAMS[section]))
    value = random.choice(_PARAMS[section][key])
    project.edit_params(**{section: {key: value}})
    return f"sets {section}.{key} to {value}"


def mistake_params(project: ChaosProject, random: Random) -> str:
    """Set a param to a value that is not allowed."""
    section = random.choice(sorted(_WRONG))
    project.edit_params(**{section: dict(_WRONG[section])})
    return f"sets {section} to {_WRONG[section]}, a mistake"


def edit_code(project: ChaosProject, random: Random) -> str:
    """Add a comment to a module."""
    path = project.root / random.choice(_CODE)
    path.write_text(f"{path.read_text(encoding='utf-8')}# {random.randrange(10**6)}\n", encoding="utf-8")
    return f"edits {path.relative_to(project.root)}"


def delete_result(project: ChaosProject, random: Random) -> str:
    """Delete a file that the pipeline wrote."""
    path = random.choice(
        project.files("features/*", "models/**/*", "predictions/*", "diagnostics/**/*", "plots/**/*", "data/*.json")
        or project.files("dvc.lock")
    )
    path.unlink()
    return f"deletes {path.relative_to(project.root)}"


def delete_kept(project: ChaosProject, random: Random) -> str:
    """Delete what makes the next run short: a kept file, a folder of them, or DVC's own."""
    found = [*project.files(".cache/**/*"), *(project.root / ".cache").glob("*"), project.root / ".dvc/tmp"]
    found = [path for path in found if "engines" not in path.parts and path.name != "embeddings"]
    path = random.choice(sorted({*found, *(project.root / ".cache/embeddings").glob("[0-9a-f]*")}))
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return f"deletes {path.relative_to(project.root)}"


def delete_lock_file(project: ChaosProject, random: Random) -> str:  # noqa: ARG001 - an action
    """Delete dvc.lock."""
    (project.root / "dvc.lock").unlink(missing_ok=True)
    return "deletes dvc.lock"


def switch_branch(project: ChaosProject, random: Random) -> str:
    """Commit everything, go to another branch, and let DVC check its results out."""
    project.commit()
    name = f"branch{random.randrange(3)}"
    exists = bool(project.run("git", "branch", "--list", name).strip())
    project.run("git", "switch", "--quiet", *([] if exists else ["--create"]), name)
    code = project.finish("dvc", "checkout", "--quiet").returncode
    return f"commits, switches to {name}{'' if exists else ' (new)'}; dvc checkout ends with {code}"


def restore_commit(project: ChaosProject, random: Random) -> str:  # noqa: ARG001 - an action
    """Discard all edits, as `git restore` and `git clean` do."""
    project.run("git", "reset", "--quiet", "--hard")
    project.run("git", "clean", "--quiet", "-d", "--force")
    return "discards all edits since the last commit"


def collect_garbage(project: ChaosProject, random: Random) -> str:  # noqa: ARG001 - an action
    """Let DVC delete from its cache what the workspace does not use."""
    return f"dvc gc -w ends with {project.finish('dvc', 'gc', '--workspace', '--force').returncode}"


def shift_times(project: ChaosProject, random: Random) -> str:
    """Move times of files into the future or the past, as a wrong clock or an unpacked archive does."""
    places = ["data/photos/*/*", "features/*", "models/**/*", ".cache/**/*", "predictions/*", "stages/*/*.py"]
    pattern, days = random.choice(places), random.choice([-9000, -1, 1, 400])
    for path in project.files(pattern):
        then = time.time() + days * _DAY_SECONDS
        os.utime(path, (then, then))
    return f"moves the times of {pattern} by {days} days"


# How often each is drawn. Some make a round long, and some are rare where people work, too.
ACTIONS: Mapping[Action, int] = {
    add_photo: 6,
    edit_photo: 4,
    truncate_photo: 3,
    remove_photo: 4,
    move_photo: 4,
    copy_photo: 3,
    add_junk: 2,
    fix_label: 3,
    edit_params: 8,
    mistake_params: 1,
    edit_code: 2,
    delete_result: 4,
    delete_kept: 4,
    delete_lock_file: 1,
    switch_branch: 3,
    restore_commit: 1,
    collect_garbage: 2,
    shift_times: 3,
    flip_kept_file: 10,
    rot_bundle: 2,
    rot_features: 2,
    rot_cached_features: 2,
}
# Those that may happen while a run works. The others use DVC, which one run locks, or need a result that lies still.
WHILE_RUNNING: tuple[Action, ...] = (
    *(add_photo, edit_photo, remove_photo, move_photo, copy_photo, add_junk, fix_label, edit_params, edit_code),
    *(delete_kept, shift_times),
)


def _write_photo(path: Path, random: Random) -> None:
    noise = np.random.default_rng(random.randrange(2**32))
    colour = np.array(COLOURS.get(path.parent.name, (128, 128, 128)))
    size = (*noise.integers(30, 60, size=2), 3)
    pixels = np.clip(colour + noise.normal(0, 40, size=size), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, "JPEG" if path.suffix == ".jpg" else "PNG")
