"""Helpers: calls in other processes, which are stopped in C code too, and errors with their causes."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headstart.base.helpers import HelperDiedError, Helpers, TooSlowError
from tests.support.source import ROOT

# Quadratic in the length of the text, in C, without a look at signals by Python: it would take years.
HOURS = (re.fullmatch, "(a+)+b", "a" * 100)


def test_results_and_errors_come_back() -> None:
    """A helper gives what the function gives, stays for the next call, and survives an error."""
    with Helpers(1) as helpers:
        first = helpers.call(os.getpid, seconds=60)
        assert helpers.call(pow, 2, 10, seconds=60) == 1024
        with pytest.raises(ValueError, match="invalid literal"):
            helpers.call(int, "x", seconds=60)
        assert helpers.call(os.getpid, seconds=60) == first != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_slow_call_is_stopped() -> None:
    """A call that does not end is an error in time; its process is gone, and the next call has another one."""
    with Helpers(1) as helpers:
        first = helpers.call(os.getpid, seconds=60)
        with pytest.raises(TooSlowError):
            helpers.call(*HOURS, seconds=0.2)
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        assert helpers.call(os.getpid, seconds=60) != first


def test_a_call_waits_for_a_helper_only_within_its_time() -> None:
    """While others have all helpers, a call ends when its own seconds do."""
    with Helpers(1) as helpers, ThreadPoolExecutor(1) as pool:
        helpers.call(os.getpid, seconds=60)
        slow = pool.submit(helpers.call, time.sleep, 0.6, seconds=60)
        time.sleep(0.1)
        with pytest.raises(TooSlowError):
            helpers.call(os.getpid, seconds=0.1)
        assert slow.result() is None
        assert helpers.call(pow, 2, 3, seconds=60) == 8


def test_a_helper_that_dies_says_how() -> None:
    """A crash in C code and an exit are errors of that call alone."""
    with Helpers(2) as helpers:
        with pytest.raises(HelperDiedError, match=f"signal {signal.SIGABRT:d}"):
            helpers.call(os.abort, seconds=60)
        with pytest.raises(HelperDiedError, match="exit code 3"):
            helpers.call(os._exit, 3, seconds=60)
        assert helpers.call(pow, 2, 3, seconds=60) == 8


def test_threads_share_helpers() -> None:
    """Many threads get their own results from few helpers."""
    with Helpers(2) as helpers, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: helpers.call(pow, number, 2, seconds=60), range(200))) == [
            number**2 for number in range(200)
        ]


def test_a_script_without_a_guard_can_use_helpers(tmp_path: Path) -> None:
    """The script is not run again in the helper, as a process of multiprocessing would do."""
    script = tmp_path / "script.py"
    script.write_text("from headstart.base.helpers import Helpers\nprint(Helpers(1).call(pow, 2, 3, seconds=60))\n")
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("8\n", "")


@pytest.mark.parametrize("is_busy", [False, True])
def test_helpers_end_with_the_process_that_has_them(is_busy: bool) -> None:
    """If that process is killed, an idle helper ends at once and a busy one at the end of its time."""
    code = (
        "import os, re, sys; from headstart.base.helpers import Helpers; helpers = Helpers(1); "
        "print(helpers.call(os.getpid, seconds=60), flush=True); "
        "helpers.call(re.fullmatch, '(a+)+b', 'a' * 100, seconds=1.0) if sys.argv[1] == 'True' else input()"
    )
    command = [sys.executable, "-c", code, str(is_busy)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        helper = int(process.stdout.readline())
        process.kill()
    for _ in range(600):
        if not is_running(helper):
            return
        threading.Event().wait(0.05)
    pytest.fail("the helper still runs")


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended may not be collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
