"""The project that suffers: a clone with a few dozen tiny photos, and commands in it that can be disturbed."""

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
from ruamel.yaml import YAML

from headstart.engines.export_process import export_backbone
from tests.conftest import TINY, backbone_params, write_tiny_weights
from tests.support.project import Project, clone_project

PHOTOS = "data/photos"
_PER_CLASS = 16
# A run takes half a minute. One that takes this long hangs.
_TIMEOUT_SECONDS = 300
_sessions: set[int] = set()  # of the commands that may still be at work


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        command: The command, as one line.
        returncode: Exit code; negative if a signal ended it.
        output: All that it and its children printed.
    """

    command: str
    returncode: int
    output: str


class HangsError(Exception):
    """A command did not end."""


class Running:
    """A command at work, in a session of its own, so that all processes that it started can be found.

    Args:
        project: Project in which it runs.
        command: Words of the command.
        extra: Variables to add to the environment.
        max_file_bytes: Largest file that its processes may write; None for no limit.
    """

    def __init__(
        self,
        project: Project,
        command: Sequence[str],
        extra: Mapping[str, str] | None = None,
        max_file_bytes: int | None = None,
    ) -> None:
        self._command = " ".join(command)
        # Not a pipe: an orphan would keep it open.
        self._output: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=project.root,
            env={**project.environment(), **(extra or {})},
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _sessions.add(self._process.pid)
        if max_file_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (max_file_bytes, hard))

    def is_over(self, seconds: float) -> bool:
        """Wait at most some seconds, and return whether the command has ended. Its children may live on."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def send(self, number: int, whom: str) -> None:
        """Send a signal to `all` processes, to the command alone (`dvc`), or to those that it started (`stage`)."""
        for process in self._processes():
            if whom == "all" or (process.pid == self._process.pid) == (whom == "dvc"):
                _signal(process, number)

    def wait(self) -> Outcome:
        """Wait until the command and its last orphan have ended.

        Raises:
            HangsError: They did not end. They are killed.
        """
        end = time.monotonic() + _TIMEOUT_SECONDS
        while not self.is_over(0.05) or self._processes():
            if time.monotonic() > end:
                self.send(signal.SIGKILL, "all")
                raise HangsError(f"{self._command}: not over after {_TIMEOUT_SECONDS} s\n{self._text()}")
        _sessions.discard(self._process.pid)
        return Outcome(self._command, self._process.returncode, self._text())

    def _text(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def _processes(self) -> list[psutil.Process]:
        return _processes_of({self._process.pid})


class ChaosProject(Project):
    """A clone of the project with tiny photos in three classes and the tests' tiny backbone."""

    def start(
        self, *command: str, extra: Mapping[str, str] | None = None, max_file_bytes: int | None = None
    ) -> Running:
        """Start a command (see `Running`)."""
        return Running(self, command, extra, max_file_bytes)

    def finish(self, *command: str) -> Outcome:
        """Run a command to its end, and return how it ended."""
        return self.start(*command).wait()

    def photos(self, folder: str = "*") -> list[Path]:
        """Return the files of a class, or of all classes, in a fixed order."""
        return sorted(path for path in (self.root / PHOTOS).glob(f"{folder}/*") if path.is_file())

    def classes(self) -> list[str]:
        """Return the names of the class folders, in a fixed order."""
        return sorted(path.name for path in (self.root / PHOTOS).iterdir() if path.is_dir())

    def files(self, *patterns: str) -> list[Path]:
        """Return the files that some patterns below the root match, in a fixed order."""
        return sorted({path for pattern in patterns for path in self.root.glob(pattern) if path.is_file()})


def make_project(root: Path, weights: Path) -> ChaosProject:
    """Make the project, run it once, and commit it.

    Args:
        root: Its folder, which must not exist.
        weights: Path below which the weights and the exported network are made once.
    """
    if not weights.exists():
        write_tiny_weights(weights)
    backbone, store = backbone_params(TINY, weights), weights.parent / "store"
    if not store.exists():
        export_backbone(backbone, 64, 64, store / "engines")
    project = ChaosProject(clone_project(root).root)
    project.use_photos(backbone, store, per_class=_PER_CLASS)
    project.edit_params(
        head={"kind": "logistic"},
        projection={"num_images": 40, "perplexity": 5.0},
        robustness={"num_images": 10},
        intervals={"resamples": 100},
        report={"gallery_images": 20},
        runtime={"workers": 2},
    )
    project.repro()
    project.commit()
    return project


def copy_tree(source: Path, target: Path) -> None:
    """Replace a folder by a copy of another, with all times; only sockets and the like are left out."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)


def read_lock(root: Path) -> dict[str, dict[str, object]]:
    """Return the stages of a dvc.lock by name; none if it is missing."""
    path = root / "dvc.lock"
    content = YAML(typ="safe").load(path.read_text(encoding="utf-8")) if path.exists() else None
    return content["stages"] if content else {}


def outputs_of(stage: Mapping[str, object]) -> Iterator[str]:
    """Give the paths of the outputs of a stage in dvc.lock."""
    outs = stage["outs"]
    assert isinstance(outs, list)
    yield from (out["path"] for out in outs)


def kill_all() -> None:
    """Kill what is still at work of all commands that were started."""
    for process in _processes_of(_sessions):
        _signal(process, signal.SIGKILL)


def _processes_of(sessions: set[int]) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _session(process.pid) in sessions]


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.Error):
        process.send_signal(number)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid) if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else -1
    except (OSError, psutil.Error):
        return -1
