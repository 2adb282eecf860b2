"""The advice of error messages, followed to the letter. What a run says plainly is here; anything else is a finding."""

import csv
import hashlib
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from re import Match
from typing import Any

from ruamel.yaml import YAML

from headstart.tables.index import IndexRow
from headstart.tables.rows import read_rows
from tests.chaos.actions import FIXES
from tests.chaos.flips import cached
from tests.chaos.project import PHOTOS, ChaosProject
from tests.support.source import ROOT

Follow = Callable[[ChaosProject, Match[str]], str]


def follow(project: ChaosProject, output: str) -> str | None:
    """Do what the first known message in the output of a failed run advises.

    Returns:
        What was done; None if no message is known.
    """
    return _follow(project, output, _ADVICE)


def _follow(project: ChaosProject, output: str, advice: Iterable[tuple[str, Follow]]) -> str | None:
    for pattern, do in advice:
        found = re.search(pattern, output, flags=re.MULTILINE)
        if found:
            return do(project, found)
    return None


def _run(project: ChaosProject, found: Match[str]) -> str:
    """Run the command. Where it fails with advice of its own, because two things are damaged, follow that too."""
    command = found[1].strip()
    outcome = project.finish(*command.split())
    did = f"runs {command}, which ends with {outcome.returncode}"
    if outcome.returncode:
        without_runs = [(pattern, do) for pattern, do in _ADVICE if do not in (_run, _repair_features)]
        did += f", and then {_follow(project, outcome.output, without_runs) or 'says nothing known'}"
    return did


def _repair_features(project: ChaosProject, found: Match[str]) -> str:
    """Run the command. Where that has been done already and the damage returned, first delete the copy in DVC's cache.

    That this is the second time is seen by the copy, whose bytes no longer have the md5 in its name.
    """
    path = cached(project.root, "extract", "features/features.h5")
    did = _run(project, found)
    after = project.root / "features/features.h5"
    if path is not None and after.exists() and _md5(path) != path.parent.name + path.name:
        path.unlink()
        did += f", deletes {path.relative_to(project.root)}, and {_run(project, found)}"
    return did


def _delete(project: ChaosProject, found: Match[str]) -> str:
    path = project.root / found[1]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return f"deletes {found[1]}"


def _accept_removed(project: ChaosProject, found: Match[str]) -> str:  # noqa: ARG001 - as the others
    params: Any = YAML(typ="safe").load((project.root / "params.yaml").read_text(encoding="utf-8"))
    project.edit_params(index={"max_removed_fraction": 1.0})
    code = project.finish("dvc", "repro", "index").returncode
    project.edit_params(index={"max_removed_fraction": params["index"]["max_removed_fraction"]})
    return f"raises index.max_removed_fraction for one run, which ends with {code}"


def _remove_bad(project: ChaosProject, found: Match[str]) -> str:  # noqa: ARG001 - as the others
    bad = [row.path for row in read_rows(project.root / "data/index.csv", IndexRow) if row.status == "quarantined"]
    for path in bad:
        (project.root / PHOTOS / path).unlink(missing_ok=True)
    return f"removes the {len(bad)} files that data/index.csv lists as quarantined"


def _remove_copies(project: ChaosProject, found: Match[str]) -> str:
    names = re.findall(r"'([^']+)'", found[1])
    for name in names[1:]:
        (project.root / PHOTOS / name).unlink()
    return f"removes {', '.join(names[1:])}"


def _remove_row(project: ChaosProject, found: Match[str]) -> str:
    path = project.root / FIXES
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    del rows[int(found[1]) - 2]  # the header is row 1
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return f"removes row {found[1]} of {FIXES}"


def _correct_params(project: ChaosProject, found: Match[str]) -> str:
    good: Any = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    path, yaml = project.root / "params.yaml", YAML()
    content: Any = yaml.load(path.read_text(encoding="utf-8"))
    keys = re.findall(r"^\s+(\w+)\.(\w+): ", found[1], flags=re.MULTILINE)
    for section, key in keys:
        if key in good[section]:
            content[section][key] = good[section][key]
        else:
            del content[section][key]
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    return f"corrects {', '.join('.'.join(key) for key in keys)}"


def _restore_lock(project: ChaosProject, found: Match[str]) -> str:  # noqa: ARG001 - as the others
    return f"takes dvc.lock from git, which ends with {project.finish('git', 'checkout', 'dvc.lock').returncode}"


def _just_again(project: ChaosProject, found: Match[str]) -> str:  # noqa: ARG001 - as the others
    return f"runs again, because it said {found[0]!r}"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


# The first that matches counts.
_ADVICE: tuple[tuple[str, Follow], ...] = (
    (r"params\.yaml: \d+ bad key\(s\)[^\n]*\n((?:\s+[^\n]+\n)+)", _correct_params),
    (r"(\S+): is damaged \([^\n]*\)\. Delete it", _delete),
    (r"embed all images again \(rm -r ([^)]+)\)", _delete),
    (r"raise index\.max_removed_fraction for one run", _accept_removed),
    (r"Repair or remove them, or raise index\.max_bad_fraction", _remove_bad),
    (r"have the same bytes under different labels, the first: ([^\n]*) \(data/index\.csv", _remove_copies),
    (r"label_fixes/photos\.csv: row (\d+): [^\n]*(?:Remove|Correct)", _remove_row),
    (r"Delete (\S+) and run: dvc repro", _delete),  # the loop runs it
    (r"Run: (dvc repro -f -s extract)\.", _repair_features),
    (r"Run: (dvc repro[a-z -]*)", _run),
    (r"(?i)no space left on device|file too large|disk is full", _just_again),
    (
        r"dvc\.lock' validation failed|unable to read: 'dvc\.lock'",
        _restore_lock,
    ),  # DVC's own words, when a bit of it rots
    (r"you can manually remove '([^']+)'", _delete),
    (r"Unable to acquire lock|is locked|Another DVC process", _just_again),
)
