"""Commands that serve a page, each in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.source import ROOT

Served = tuple[subprocess.Popen[str], str]  # process and address


@contextmanager
def serving(words: Sequence[str], folder: Path, environment: Mapping[str, str] = os.environ) -> Iterator[Served]:
    """Run a command of `headstart` in a folder; yields its process and the address that it prints first."""
    command = [sys.executable, "-m", "headstart", *words]
    code = {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=folder, env={**environment, **code}, stderr=subprocess.PIPE, text=True
    ) as server:
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


@contextmanager
def serving_review(root: Path, environment: Mapping[str, str] = os.environ) -> Iterator[Served]:
    """Run `headstart review` in a project; yields as `serving`."""
    with serving(["review", "--no-browser", "--who", "ann"], root, environment) as served:
        yield served
