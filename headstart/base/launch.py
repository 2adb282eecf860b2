"""Launch: a module runs in several processes on this machine, by torchrun."""

import logging
import os
import signal
import subprocess
import sys
import tempfile

from headstart.base.entry import MESSAGES, first_message
from headstart.base.errors import HeadstartError

_MAX_RESTARTS = 3
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # somebody wants no restart


def run_processes(module: str, num: int) -> bool:
    """Run a module in several processes on this machine, wait for them, and return whether all succeeded.

    If a process dies, all are started again, at most three times. An error that the user can mend ends them at once.

    Args:
        module: Dotted name of the module, as for `python -m`. Its `main` runs in `run_main`.
        num: Number of processes.

    Raises:
        HeadstartError: A process met an error that the user can mend. The message is that of the process.
    """
    command = [sys.executable, "-m", "headstart.base.launch", module, str(num)]
    with tempfile.TemporaryDirectory() as folder:
        for attempt in range(1 + _MAX_RESTARTS):
            if attempt:
                print(f"a process died; all start again ({attempt} of {_MAX_RESTARTS})", flush=True)
            status = _run(command, os.environ | {MESSAGES: folder})
            if status == 0:
                return True
            message = first_message(folder)
            if message is not None:
                raise HeadstartError(message)
            if status in _STOPPED:
                return False
    return False


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command and return its exit status. If this process is stopped meanwhile, the command ends first."""
    with subprocess.Popen(command, env=environment) as process:  # noqa: S603 - our own words
        try:
            return process.wait()
        except BaseException:
            process.terminate()  # torchrun then ends the processes that it started
            process.wait()
            raise


def main() -> None:
    """Start the processes once and wait for them: `python -m headstart.base.launch MODULE NUM`.

    In place of torch's report, which has a stack trace of torchrun, it says only which process was killed. A process
    that fails has said so itself.

    Raises:
        SystemExit: A process died or failed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    module, num = sys.argv[1:]
    logging.disable(logging.ERROR)
    try:
        options = parse_args(["--standalone", f"--nproc-per-node={num}", "--max-restarts=0", "-m", module])  # type: ignore[no-untyped-call]
        run(options)  # type: ignore[no-untyped-call]
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.exit(f"process {rank} of {num} was ended by {failure.signal_name()}" if failure.exitcode < 0 else 1)


if __name__ == "__main__":
    main()
