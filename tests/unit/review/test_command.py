"""The command: it serves this machine only, prints the address, and stops cleanly."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from headstart.review.command import parse
from headstart.review.redirect import redirect_page
from tests.support.source import ROOT


def start(root: Path, *options: str, browser: str = "") -> "subprocess.Popen[str]":
    """Start the command in a project; with no browser, it opens none."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GIT_CONFIG_GLOBAL": str(root / "gitconfig"),
        "BROWSER": browser,
    }
    command = [sys.executable, "-m", "headstart", "review", *([] if browser else ["--no-browser"]), *options]
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


@pytest.mark.parametrize("who", ["J\udcfcrgen", "Ann\nBob", "\x1b[31m"])
def test_a_name_that_no_file_can_hold_is_refused(who: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are not UTF-8 and control characters are an error in one line, before the project is read."""
    with pytest.raises(SystemExit):
        parse(["--who", who])
    text = capsys.readouterr().err

    assert "expected printable letters in UTF-8" in text
    assert text.isprintable() or text.rstrip("\n").isprintable()
    assert parse(["--who", "Jürgen 日本"]).who == "Jürgen 日本"


def test_only_this_user_can_read_where_the_page_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page and its folder are private, and gone afterwards; an address with markup stays an address."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old = os.umask(0)
    try:
        with redirect_page('http://[::1]:8000/a"b/') as page:
            modes = [oct(path.stat().st_mode & 0o777) for path in (page, page.parent)]
            text = page.read_text(encoding="utf-8")
    finally:
        os.umask(old)

    assert modes == ["0o600", "0o700"]
    assert text.count("http://[::1]:8000/a&quot;b/") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_other_user_sees_the_token(root: Path) -> None:
    """The browser is started with the path of a page that leads to the address; both end with the server."""
    browser, told = root / "browser", root / "told"
    browser.write_text(f'#!/bin/sh\nprintf %s "$*" > {told}.new && mv {told}.new {told}\n')
    browser.chmod(0o755)
    process = start(root, browser=f"{browser} %s")
    assert process.stderr is not None
    process.stderr.readline()
    address = re.search(r"http://\S+", process.stderr.readline())
    assert address
    while not told.exists():
        time.sleep(0.01)
    page = Path(urllib.request.url2pathname(told.read_text().removeprefix("file://")))

    assert address[0] in page.read_text(encoding="utf-8")
    assert address[0].rsplit("/", 2)[1] not in told.read_text()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert not page.parent.exists()


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
