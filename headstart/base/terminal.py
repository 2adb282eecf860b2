"""The terminal: text of files and labels is shown there, but cannot command it."""

import io
import sys


def printable(text: str) -> str:
    """Return text in one line. Letters that a terminal would obey, such as ESC or a line end, are escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def print_any_text() -> None:
    """Make `print` escape what the encoding of the output lacks, such as `å` in ASCII. By default that is an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
