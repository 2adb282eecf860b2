"""The command `python -m stages.predict BUNDLE INPUT...`: what a model says of images."""

import io
import signal
import sys

from stages.core.entry import run_room


def main() -> None:
    """Read the command line, predict, and say how many images could not be read."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads the output may stop reading
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may have letters that a terminal has not

    from stages.predict.command import parse, run

    summary = run(parse(sys.argv[1:]))
    print(f"predict: {summary}", file=sys.stderr)


if __name__ == "__main__":
    run_room("predict", main)
