"""The workflow of docs/how-to/ci.md: a pull request is trained in a clean clone and compared with its base."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.support.project import Project, stages_run
from tests.support.source import ROOT

PAGE = (ROOT / "docs/how-to/ci.md").read_text(encoding="utf-8")
GITHUB, GITLAB = (YAML(typ="safe").load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))


def script_of(name: str) -> str:
    """Return the commands of a step of the workflow, without the environment, which the tests have."""
    (step,) = [step for step in GITHUB["jobs"]["compare"]["steps"] if step.get("name") == name]
    return step["run"].replace("source .venv/bin/activate\n", "")


def test_a_pull_request_is_trained_and_compared(tmp_path: Path, copy_of_finished: Callable[[Path], Project]) -> None:
    """In a clone of a bare repository, without photos, the workflow's own commands train the head and compare it."""
    box = copy_of_finished(tmp_path / "team" / "box")
    box.run("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(tmp_path / "origin.git"))
    box.run("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    box.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote"))
    box.run("dvc", "push")
    box.commit()
    box.run("git", "push", "--quiet", "origin", "main")
    box.run("git", "switch", "--quiet", "--create", "change")
    box.edit_params(head={"c": 1e-9})
    box.commit()
    box.run("git", "push", "--quiet", "origin", "change")
    clone = Project(tmp_path / "runner" / "clone")
    box.run("git", "clone", "--quiet", "--branch", "change", str(tmp_path / "origin.git"), str(clone.root))

    output = clone.run("bash", "-ec", script_of("Train"))
    before = clone.run("git", "status", "--porcelain")
    clone.run("bash", "-ec", script_of("Compare"), extra={"BASE": "origin/main"})

    assert set(stages_run(output)) == {"head", "evaluate@head"}
    assert not (clone.root / "data/photos").exists()
    comparison = (clone.root / "comparison.md").read_text(encoding="utf-8")
    assert "### head: " in comparison
    assert re.search(r"\| `head\.c` +\| `auto` +\| `1e-09` +\|", comparison)
    assert clone.run("git", "status", "--porcelain") == f"{before}?? comparison.md\n"
    found = json.loads(clone.run("python", "-m", "headstart", "compare", "origin/main", "--json"))
    assert {track["track"]: track["num_images"] for track in found["tracks"]} == {"head": 3, "finetune": 3}


def test_both_recipes_run_the_same_commands() -> None:
    """What is tried for GitHub is what GitLab runs, apart from what is theirs."""
    ours = [line for name in ("Install", "Train", "Compare") for line in script_of(name).splitlines()]
    theirs = GITLAB["compare"]["script"]

    assert [line for line in theirs if not line.startswith(("git fetch", "source "))] == ours


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")
def test_a_read_only_checkout_and_a_user_without_a_name_are_enough(
    tmp_path: Path, copy_of_finished: Callable[[Path], Project]
) -> None:
    """The comparison works where nothing can be written, with a number of a user that nobody knows."""
    project = copy_of_finished(tmp_path / "team" / "project")
    somebody = ["unshare", "--user", "--map-user", "12345", "--map-group", "12345"]
    mount = ["mount", "--bind", "-o", "ro", str(project.root), str(project.root)]
    if subprocess.run([*somebody, "true"]).returncode or subprocess.run(mount).returncode:
        pytest.skip("this machine allows no user namespaces, or no mounts")
    try:
        extra = {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
        output = project.run(*somebody, "python", "-m", "headstart", "compare", "HEAD", extra=extra)
    finally:
        subprocess.run(["umount", str(project.root)], check=True)

    assert "Nothing: params, code, data and images are the same" in output
