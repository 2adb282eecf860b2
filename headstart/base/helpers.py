"""Helpers: processes that call functions for threads, and that die if a call takes too long.

A thread that runs C code cannot be stopped. A helper can: before each call it sets itself an alarm, whose signal ends a
process whatever it is doing, even if the process that started it has died meanwhile. Helpers are started as commands
and not by multiprocessing, so that they work in a script without `if __name__ == "__main__"`, in a notebook and in a
process of a pool, and never import the script.
"""

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self, TypeVar

Result = TypeVar("Result")
_Helper = tuple[subprocess.Popen[bytes], Connection]
_SHORTEST_SECONDS = 0.001  # an alarm in 0 seconds would be none
_NICENESS = 10


class TooSlowError(Exception):
    """A call did not end in time. Its helper is dead."""


class HelperDiedError(Exception):
    """A helper died during a call, by something other than its alarm. The message says how."""


class Helpers:
    """Calls functions in other processes. Thread-safe. A context manager: at its end the helpers have ended.

    A helper starts with the first call that finds no idle one, in about half a second, and stays for later calls.

    Args:
        num: Number of helpers. Further calls wait.
        in_background: Whether they leave the cores to other processes that want them, and live on at Ctrl-C until they
            have answered.
    """

    def __init__(self, num: int, *, in_background: bool = False) -> None:
        self._in_background, self._free = in_background, threading.BoundedSemaphore(num)
        self._idle: list[_Helper] = []
        self._end = weakref.finalize(self, _end_all, self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def call(self, function: Callable[..., Result], *args: object, seconds: float) -> Result:
        """Return `function(*args)`. Whatever the function raises is raised here.

        Args:
            function: Function of an importable module.
            args: Arguments that can be pickled.
            seconds: Seconds until the call must have ended, with the wait for a helper.

        Raises:
            TooSlowError: The call did not end in time. Nothing of it runs on.
            HelperDiedError: The helper died: it crashed, or it was killed, perhaps for lack of memory.
        """
        end = time.monotonic() + seconds
        if not self._free.acquire(timeout=max(0.0, seconds)):
            raise TooSlowError
        try:
            helper = self._start_or_take()
            result, error = _ask(helper, (max(end - time.monotonic(), _SHORTEST_SECONDS), function, args))
            self._idle.append(helper)
        finally:
            self._free.release()
        if error is not None:
            raise error
        return result

    def _start_or_take(self) -> _Helper:
        with suppress(IndexError):
            return self._idle.pop()
        ours, theirs = Pipe()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - a command of our own
                [sys.executable, "-W", "ignore", "-m", __name__, str(theirs.fileno()), str(int(self._in_background))],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},  # noqa: PTH109
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0 if self._in_background else None,
            )
        return process, ours


def _ask(helper: _Helper, call: tuple[float, Callable[..., Any], tuple[object, ...]]) -> tuple[Any, Exception | None]:
    """Return the result of a call, and its error, if there is one."""
    process, connection = helper
    try:
        connection.send(call)
        answer: tuple[Any, Exception | None] = connection.recv()
    except (EOFError, OSError) as error:
        connection.close()
        code = process.wait()
        if code == -signal.SIGALRM:
            raise TooSlowError from error
        raise HelperDiedError(f"signal {-code}" if code < 0 else f"exit code {code}") from error
    except BaseException:
        connection.close()
        process.kill()
        process.wait()
        raise
    return answer


def _end_all(helpers: list[_Helper]) -> None:
    for _, connection in helpers:
        connection.close()
    for process, _ in helpers:
        process.wait()
    helpers.clear()


def main() -> None:
    """Answer calls from the connection that the first argument names, until its other end is closed."""
    if sys.argv[2] == "1":
        os.nice(_NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would wait for the end of C code
    connection = Connection(int(sys.argv[1]))
    with suppress(EOFError, OSError):
        while True:
            seconds, function, args = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, seconds)
            answer: tuple[Any, Exception | None]
            try:
                answer = function(*args), None
            except Exception as error:  # noqa: BLE001 - it is raised again where the call comes from
                answer = None, error
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(answer)


if __name__ == "__main__":
    main()
