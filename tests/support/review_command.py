"""The command `headstart review` in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.source import ROOT


@contextmanager
def command(root: Path, environment: Mapping[str, str] = os.environ) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command in a project; yields its process and the address of its page."""
    words = [sys.executable, "-m", "headstart", "review", "--no-browser", "--who", "ann"]
    code = {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=root, env={**environment, **code}, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        found = None
        while found is None:
            line = server.stderr.readline()
            assert line
            found = re.search(r"http://\S+", line)
        try:
            yield server, found[0]
        finally:
            server.terminate()
