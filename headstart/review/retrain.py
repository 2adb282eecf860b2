"""Retraining: `dvc repro evaluate@head` in a process of its own, one at a time, which can be cancelled."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from headstart.base.errors import DataError, HeadstartError
from headstart.review.comparison import HeadResults, compare

_DVC = (sys.executable, "-m", "dvc", "repro")
COMMAND = (*_DVC, "evaluate@head")
# DVC reads the fixes once more when `split` has ended. A fix that was made meanwhile would count as applied.
AGAIN = (*_DVC, "--force", "--single-item", "split")
_SPLIT_STARTS, _SPLIT_IS_SAVED = "Running stage 'split'", "Updating lock file"  # what DVC prints
# A person who goes on deciding meets the second or two of `split` in about every second round.
_MOST_ROUNDS = 10
_NUM_LINES = 20
_LINE_BYTES = 2000
# How long a cancelled process may tidy up. DVC ends at once; a stage removes its temporary files.
_CANCEL_SECONDS = 10.0
# What DVC prints if another process of it is at work: between two stages, and during one.
_LOCKED = ("Unable to acquire lock", "it is being blocked by")


class Results(Protocol):
    """The results of the head that are in use."""

    def shown(self) -> HeadResults:
        """Return them."""

    def take(self) -> None:
        """Use those that a run has left.

        Raises:
            HeadstartError: They cannot be read.
        """

    def leave(self) -> None:
        """Go on with the old ones: what a run has left is no result."""


class Retrain:
    """The last run, or the one that is going on. Threads may use it at once.

    Args:
        root: Folder of the project.
        stamp: Returns what changes whenever the label fixes do. If they change while `split` runs, the run starts over.
            A later change does no harm: the next run applies it.
        results: The results that the page shows. New ones are taken into use in the run's thread, before the run counts
            as done. The comparison starts from what was shown: what a cancelled run left on the disk was not.
        command: Words of the command.
        again: Words of the command that goes before it when the run starts over.
        hold: Makes decisions wait until the function that it returns is called. They wait while `split` runs.
    """

    def __init__(
        self,
        root: Path,
        stamp: Callable[[], object],
        results: Results,
        command: Sequence[str] = COMMAND,
        again: Sequence[str] = AGAIN,
        *,
        hold: Callable[[], Callable[[], None]] = lambda: lambda: None,
    ) -> None:
        self._root, self._stamp, self._results = root, stamp, results
        self._command, self._again, self._hold = command, again, hold
        self._mutex = threading.Lock()
        self._lines: deque[str] = deque(maxlen=_NUM_LINES)
        self._state, self._reason = "idle", ""
        self._comparison: dict[str, Any] | None = None
        self._start = self._end = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False
        self._is_stale = False  # whether DVC may count a fix as applied that `split` has not read
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run is going on."""
        return self._state == "running"

    def start(self) -> bool:
        """Start a run; return False if one is going on."""
        with self._mutex:
            if self._state == "running":
                return False
            self._state, self._reason, self._comparison = "running", "", None
            self._is_cancelled, self._process = False, None
            self._lines.clear()
            self._start = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="retrain", daemon=True)
            self._thread.start()
            return True

    def cancel(self) -> bool:
        """Ask the run to end; return False if none is going on. What it interrupts is run again next time."""
        with self._mutex:
            if self._state != "running":
                return False
            self._is_cancelled = True
            if self._process is not None:
                self._stop(self._process)
            return True

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the run has ended."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def status(self) -> dict[str, Any]:
        """Return the state of the run, its last lines, its seconds and, when it is done, the comparison."""
        with self._mutex:
            end = time.monotonic() if self._state == "running" else self._end
            return {
                "state": self._state,
                "reason": self._reason,
                "lines": list(self._lines),
                "seconds": round(end - self._start, 1),
                "comparison": self._comparison,
            }

    def _run(self) -> None:
        state, reason, comparison = "failed", "", None
        try:
            before = self._results.shown()
            code = self._run_rounds()
            if self._is_cancelled and code != 0:
                state, reason = "cancelled", "Cancelled. The results on disk may be incomplete until you retrain."
            elif code == 0:
                self._results.take()
                comparison, state = compare(before, self._results.shown()), "done"
            else:
                state, reason = self._explain(code)
        except (HeadstartError, OSError) as error:
            reason = str(error)
        finally:
            if state in ("cancelled", "failed"):
                self._results.leave()
            with self._mutex:
                self._state, self._reason, self._comparison = state, reason, comparison
                self._end, self._process = time.monotonic(), None

    def _run_rounds(self) -> int:
        """Run the command until no label changed while `split` ran, and return its exit code."""
        for _ in range(_MOST_ROUNDS):
            code, is_moved = self._run_command(self._again) if self._is_stale else (0, False)
            if code == 0 and not is_moved:
                code, is_moved = self._run_command(self._command)
            if self._is_cancelled or not is_moved:
                return code
            with self._mutex:
                self._lines.append("Labels changed meanwhile, so the run starts over.")
        raise DataError(f"Labels changed during each of {_MOST_ROUNDS} runs. Retrain once more when nobody decides.")

    def _run_command(self, command: Sequence[str]) -> tuple[int, bool]:
        """Run a command; return its exit code, and whether labels changed while it ran `split`."""
        # DVC starts the stages as `python -m stages.<stage>`: this makes that `python` the one that runs now.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        with self._mutex:
            if self._is_cancelled:
                return -1, False
            process = subprocess.Popen(  # noqa: S603 - the words are ours
                list(command),
                cwd=self._root,
                env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, so that a signal reaches the stage too
            )
            self._process = process
        assert process.stdout is not None
        is_moved, is_splitting = False, False
        stamp: object = None
        release: Callable[[], None] | None = None

        def end_split() -> None:
            nonlocal is_moved, is_splitting
            if is_splitting:
                is_splitting, is_moved = False, self._stamp() != stamp
                self._is_stale = is_moved
                if release is not None:
                    release()

        with process.stdout as output:
            while line := output.readline(_LINE_BYTES):
                text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
                if text.startswith(_SPLIT_STARTS):
                    release = self._hold()
                    is_splitting, stamp = True, self._stamp()
                elif text.startswith(_SPLIT_IS_SAVED):
                    end_split()
                if text:
                    with self._mutex:
                        self._lines.append(text)
        code = process.wait()
        end_split()
        return code, is_moved

    def _explain(self, code: int) -> tuple[str, str]:
        """Return the state of a run that failed, and the reason: in its own words, if it had the time to say them."""
        if code < 0:
            return "failed", f"Somebody ended DVC (signal {-code}, {signal.Signals(-code).name}). Retrain again."
        with self._mutex:
            lines = list(self._lines)
        if any(words in line for line in lines for words in _LOCKED):
            return "locked", (
                "Another DVC process is at work in this project. Nothing was changed; try again when it has ended."
            )
        stages = [line.partition("'")[2].partition("'")[0] for line in lines if line.startswith("Running stage '")]
        name = stages[-1].partition("@")[0] if stages else ""
        own = [line for line in lines if name and line.startswith(f"{name}: ")]
        errors = [line for line in lines if line.startswith("ERROR: ")]
        return "failed", (own or errors or lines or ["The command ended without a word."])[-1]

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        _signal_group(process, signal.SIGINT)  # as Ctrl+C in a terminal, which DVC and the stages know

        def kill() -> None:
            try:
                process.wait(_CANCEL_SECONDS)
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)
