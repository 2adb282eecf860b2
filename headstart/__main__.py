"""`python -m headstart COMMAND`, which the wheel installs as `headstart COMMAND`."""

import importlib
import sys

from headstart.base.entry import run_main

# The module of each command, and what it does.
COMMANDS = {
    "predict": ("headstart.predict.commands.predict", "predict the classes of images"),
    "serve": ("headstart.predict.commands.serve", "predict over HTTP, with a page to try the model"),
    "export": ("headstart.predict.commands.export", "write a model for other runtimes, or with all its weights"),
    "compare": ("headstart.revisions.command", "is this revision really better than that one?"),
    "review": ("headstart.review.command", "correct labels on a local page, and train the head anew"),
    "store": ("headstart.store.command", "look after the stored embeddings"),
}


def main() -> None:
    """Run the command that the first word names."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        lines = [f"  {command:<8} {meaning}" for command, (_, meaning) in COMMANDS.items()]
        print("usage: headstart COMMAND ...", "", *lines, "", "headstart COMMAND --help lists its options.", sep="\n")
        return
    if name not in COMMANDS:
        print(f"headstart: {name!r} is not a command; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    run_main(name, lambda: importlib.import_module(COMMANDS[name][0]).main(words))


if __name__ == "__main__":
    main()
