"""Starts a module in several processes on this machine by torchrun: `python -m headstart.base.launch MODULE NUM`.

In place of torch's report, which has a stack trace of torchrun, it says only which process was killed. A process that
fails has said so itself.
"""

import logging
import sys


def main() -> None:
    """Start the processes and wait for them.

    Raises:
        SystemExit: A process died or failed.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    module, num = sys.argv[1:]
    logging.disable(logging.ERROR)
    try:
        options = parse_args(["--standalone", f"--nproc-per-node={num}", "--max-restarts=0", "-m", module])  # type: ignore[no-untyped-call]
        run(options)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.exit(f"process {rank} of {num} was ended by {failure.signal_name()}" if failure.exitcode < 0 else 1)


if __name__ == "__main__":
    main()
