"""A scratch clone of the project in which DVC really runs."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from headstart.backbone.params import BackboneParams
from tests.conftest import write_photos
from tests.support.source import ROOT, tracked_files


@dataclass(frozen=True)
class Project:
    """A clone of the project, with its own folder, git history and DVC cache."""

    root: Path

    def run(self, *command: str, check: bool = True, extra: Mapping[str, str] | None = None) -> str:
        """Run a command in the clone with the project's Python first on PATH; and return all that it printed.

        Args:
            command: Words of the command.
            check: True if the command must succeed, False if it must fail.
            extra: Variables to add to the environment.
        """
        environment = {**self.environment(), **(extra or {})}
        done = subprocess.run(
            command, cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert not check or done.returncode == 0, done.stdout
        assert check or done.returncode != 0, done.stdout
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Return the environment of commands: the project's Python comes first, and DVC knows no other project."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment["DVC_SITE_CACHE_DIR"] = str(self.root.parent / "dvc-site-cache")
        environment.pop("TORCH_HOME", None)
        return environment

    def repro(self, *options: str) -> list[str]:
        """Run `dvc repro`, and return the names of the stages that ran."""
        return stages_run(self.run("dvc", "repro", *options))

    def edit_params(self, **sections: dict[str, Any]) -> None:
        """Change values in params.yaml."""
        path = self.root / "params.yaml"
        yaml = YAML()
        content = yaml.load(path.read_text(encoding="utf-8"))
        for name, values in sections.items():
            content[name] |= values
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)

    def use_photos(self, backbone: BackboneParams, engines: Path, *, per_class: int = 4) -> None:
        """Write photos into data/photos, and set the params to them and to the tiny backbone that `engines` has."""
        write_photos(self.root / "data" / "photos", per_class=per_class)
        shutil.copytree(engines, self.root / ".cache" / "embeddings")
        self.edit_params(
            data={"path": "data/photos"},
            backbone=backbone.model_dump(),
            transform={"px": 64},
            head={"folds": 3},
            finetune={"folds": 3, "epochs": 1, "batch": 4},
            runtime={"device": "cpu", "batch": 4},
        )

    def commit(self) -> None:
        """Commit everything."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "state")


def stages_run(output: str) -> list[str]:
    """Return the names of the stages that DVC ran, from its output."""
    return re.findall(r"^Running stage '(.+)':", output, flags=re.MULTILINE)


def clone_project(root: Path) -> Project:
    """Copy what git tracks or would track, and commit it in a new repository."""
    for name in tracked_files():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    project = Project(root)
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.run("git", "config", "user.email", "test@example.com")
    project.run("git", "config", "user.name", "Test")
    project.commit()
    return project


# A stage of a watched run executes this at its start. It lists the files that the stage opens for reading.
_WATCH = """
import os, sys
stage, folder = os.environ.get("DVC_STAGE"), os.environ.get("READS_FOLDER")
if stage and folder:
    log = open(os.path.join(folder, f"{stage.replace('/', '-')}.{os.getpid()}"), "a", buffering=1)
    def watch(event, args, root=os.getcwd()):
        if event == "open" and isinstance(args[0], (str, bytes)) and args[2] & os.O_ACCMODE == os.O_RDONLY:
            path = os.path.relpath(os.path.join(root, os.fsdecode(args[0])), root)
            if not path.startswith(".."):
                log.write(path + "\\n")
    sys.addaudithook(watch)
"""


def watched_repro(project: Project) -> list[str]:
    """Run `dvc repro`, list in `<root>/../reads/` what each stage reads, and return the stages that ran."""
    site, reads = project.root.parent / "site", project.root.parent / "reads"
    site.mkdir()
    reads.mkdir()
    (site / "sitecustomize.py").write_text(_WATCH)
    return stages_run(project.run("dvc", "repro", extra={"PYTHONPATH": str(site), "READS_FOLDER": str(reads)}))


def files_read(project: Project) -> dict[str, set[str]]:
    """Return what each stage of a watched run opened for reading, as paths below the project's root."""
    found: dict[str, set[str]] = {}
    for log in (project.root.parent / "reads").iterdir():
        found.setdefault(log.name.rpartition(".")[0], set()).update(log.read_text().splitlines())
    return found
