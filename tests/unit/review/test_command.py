"""The command: it serves this machine only, prints the address, and stops cleanly."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from headstart.review.command import parse
from tests.support.source import ROOT


def start(root: Path, *options: str) -> "subprocess.Popen[str]":
    """Start the command in a project."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GIT_CONFIG_GLOBAL": str(root / "gitconfig")}
    command = [sys.executable, "-m", "headstart", "review", "--no-browser", *options]
    return subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "example.org", "::"])
def test_other_machines_cannot_be_served(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that others reach is refused, because everyone could change the labels."""
    with pytest.raises(SystemExit):
        parse(["--host", host])

    assert "expected a loopback address" in capsys.readouterr().err


def test_the_defaults_are_safe() -> None:
    """Without options the command takes any free port of the loopback."""
    options = parse([])

    assert (options.host, options.port, options.no_browser) == ("127.0.0.1", 0, False)
    assert parse(["--host", "localhost", "--port", "8001"]).port == 8001


@pytest.mark.slow
def test_the_address_is_printed_and_works(root: Path) -> None:
    """The page's data are there, by the name that git knows; SIGTERM ends the server without a trace."""
    (root / "gitconfig").write_text("[user]\nname = Åsa\n", encoding="utf-8")
    process = start(root)
    assert process.stderr is not None
    about, where = process.stderr.readline(), process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{40,}/", where)
    assert found, where
    with urllib.request.urlopen(found[0] + "api/state") as answer:
        assert '"who":"Åsa"' in answer.read().decode()
    process.send_signal(signal.SIGTERM)

    assert "12 images of data/photos, 6 labels to check" in about
    assert process.stderr.read() == "review: stopped\n"
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.slow
def test_a_project_without_results_says_what_to_run(root: Path) -> None:
    """One line, no stack trace."""
    (root / "predictions/head.csv").unlink()
    process = start(root)
    _, text = process.communicate()

    assert process.returncode == 1
    assert text == "review: predictions/head.csv: is missing. Run: dvc repro head\n"
