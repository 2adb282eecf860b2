"""Processes that work together: who starts again, and which message a user sees."""

from pathlib import Path

import pytest

from headstart.base import launch
from headstart.base.errors import HeadstartError
from headstart.base.launch import run_processes
from tests.support.source import ROOT

# Two processes that meet in a sum by gloo, until one of them does what a test asks for.
MODULE = """
import os
from datetime import timedelta
from pathlib import Path

from headstart.base.entry import run_main
from headstart.base.errors import DataError


def main() -> None:
    import torch
    from torch import distributed

    distributed.init_process_group("gloo", timeout=timedelta(seconds=30))
    with Path(f"starts{os.environ['RANK']}").open("a") as file:
        file.write("start ")
    starts = Path(f"starts{os.environ['RANK']}").read_text().count("start")
    if os.environ["RANK"] == "1":
        FAIL
    distributed.all_reduce(torch.ones(1))
    distributed.destroy_process_group()


if __name__ == "__main__":
    run_main("work", main)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder in which the processes run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def starts(folder: Path) -> int:
    """Return how often the second process has started."""
    return (folder / "starts1").read_text().count("start")


@pytest.mark.slow
def test_an_error_that_the_user_can_mend_is_shown_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It ends all processes at the first attempt. The parent has the message, and no process prints anything."""
    (folder / "work.py").write_text(MODULE.replace("FAIL", 'raise DataError("photos/a.jpg: changed. Do this.")'))

    with pytest.raises(HeadstartError, match=r"^photos/a\.jpg: changed\. Do this\.$"):
        run_processes("work", 2)
    assert starts(folder) == 1
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.slow
def test_a_process_that_dies_is_started_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A killed process is named by its signal, without torch's report, and all processes start again."""
    (folder / "work.py").write_text(MODULE.replace("FAIL", "if starts == 1: os.kill(os.getpid(), 9)"))

    assert run_processes("work", 2)
    assert starts(folder) == 2
    output = "".join(capfd.readouterr())
    assert "a process died; all start again (1 of 3)" in output
    assert "ChildFailedError" not in output


@pytest.mark.slow
def test_a_bug_shows_its_stack_trace(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that is no message for the user is shown with its stack, after the last attempt too."""
    monkeypatch.setattr(launch, "_MAX_RESTARTS", 0)
    (folder / "work.py").write_text(MODULE.replace("FAIL", "raise KeyError('a bug')"))

    assert not run_processes("work", 2)
    assert capfd.readouterr().err.count("KeyError: 'a bug'") == 1
