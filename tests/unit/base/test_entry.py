"""An error that the user can mend is one message; a bug still shows its stack trace."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headstart.base.entry import run_main
from headstart.base.errors import DataError
from tests.support.source import ROOT


@pytest.fixture(autouse=True)
def restored_handler() -> Iterator[None]:
    """Restore the handler of SIGTERM, which `run_main` sets, for the tests that follow."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_users_mistake_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A user's mistake ends the process with a message that begins with the name of the stage."""

    def main() -> None:
        raise DataError("no such folder. Do this.")

    with pytest.raises(SystemExit) as caught:
        run_main("index", main)

    assert caught.value.code == "index: no such folder. Do this."
    assert capsys.readouterr().err == ""


def test_the_systems_own_errors_are_one_message(tmp_path: Path) -> None:
    """An error of the operating system is one message with the name of the file."""
    with pytest.raises(SystemExit, match="No such file or directory: .*absent"):
        run_main("index", lambda: print((tmp_path / "absent").read_text()))


def test_a_polite_stop_leaves_no_temporary_file(tmp_path: Path) -> None:
    """SIGTERM removes half-written files, and the exit status tells the signal."""
    code = (
        "import sys, time; from pathlib import Path; from headstart.base.entry import run_main\n"
        "from headstart.base.files import atomic_path\n"
        "def main():\n"
        "    with atomic_path(Path(sys.argv[1]) / 'f'):\n"
        "        print('ready', flush=True); time.sleep(60)\n"
        "run_main('x', main)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()

    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_a_bug_shows_its_trace() -> None:
    """Other errors, and missing modules of this project, are bugs and pass through unchanged."""
    with pytest.raises(ZeroDivisionError):
        run_main("index", lambda: print(1 / 0))
    with pytest.raises(ModuleNotFoundError):
        run_main("index", lambda: print(__import__("stages.nowhere")))


@pytest.mark.parametrize(
    "stage",
    sorted(path.parent.name for path in (ROOT / "stages").glob("*/__main__.py")),
)
def test_a_wrong_python_is_told_in_one_line(tmp_path: Path, stage: str) -> None:
    """With a Python that lacks the project's packages, every stage prints one line that says how to run it."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [base, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runpy; "
         f"sys.argv = ['x', 'head']; runpy.run_module('stages.{stage}', run_name='__main__')"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "it is not the project's Python. Run through `make`" in done.stderr
