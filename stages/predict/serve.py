"""The command `python -m stages.predict.serve BUNDLE`: a model that answers over HTTP, and a page to try it on."""

import sys

from stages.core.entry import run_room


def main() -> None:
    """Read the command line, load the model, and serve until a signal stops it."""
    from stages.predict.server.running import parse, run

    run(parse(sys.argv[1:]))


if __name__ == "__main__":
    run_room("serve", main)
