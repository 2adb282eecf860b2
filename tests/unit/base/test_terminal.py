"""The terminal: it shows any text, and obeys none of it."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.terminal import printable
from tests.support.source import ROOT


@given(st.text())
def test_shown_text_is_one_printable_line(text: str) -> None:
    """Whatever a label or a path holds, what is shown is printable; printable text is shown as it is."""
    shown = printable(text)

    assert shown.isprintable()
    assert printable(shown) == shown


def test_commands_to_the_terminal_are_escaped() -> None:
    """ESC, line ends and letters that turn the direction of writing are shown, not obeyed."""
    assert printable("a\x1b[31mb\nc\u202ed\u00e5") == "a\\x1b[31mb\\nc\\u202ed\u00e5"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_the_output_lacks_are_escaped(encoding: str) -> None:
    """Where the output is ASCII, a stage that prints other letters ends well."""
    code = (
        "import sys; from headstart.base.entry import run_main; "
        "run_main('split', lambda: print('bl\u00e5u\U0001f41d', file=sys.stdout))"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True, cwd=ROOT)

    assert done.stdout in (b"bl\\xe5u\\U0001f41d\n", b"bl\xe5u\\U0001f41d\n")
