"""A download is complete and has the expected digest, or it leaves nothing behind and the error says what to do."""

import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from headstart.base.download import download
from headstart.base.errors import DownloadError
from tests.support.source import ROOT

BODY = bytes(range(256)) * 3000
get = partial(download, stage="test", remedy="Do this.")


class Handler(BaseHTTPRequestHandler):
    """Serves BODY; the path says how."""

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path.startswith("/to-"):
            self.send_response(302)
            self.send_header("Location", f"{self.path.removeprefix('/to-')}://127.0.0.1/etc/hostname")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/absent" else 200)
        if self.path != "/unannounced":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.path == "/slow":
            self.wfile.write(BODY[:1])
            self.server.end_of_test.wait()  # type: ignore[attr-defined]
        self.wfile.write(BODY[: len(BODY) // 2] if self.path == "/short" else BODY)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a local HTTP server."""
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        http.end_of_test = Event()  # type: ignore[attr-defined]
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.end_of_test.set()  # type: ignore[attr-defined]
        http.shutdown()


@pytest.mark.parametrize("name", ["file", "unannounced"])
def test_a_file_arrives_whole(server: str, tmp_path: Path, name: str) -> None:
    """A download has the server's bytes, whether or not the server announces their number."""
    get(f"{server}/{name}", tmp_path / "sub" / "f", sha256_prefix=sha256(BODY).hexdigest()[:8])

    assert (tmp_path / "sub" / "f").read_bytes() == BODY


@pytest.mark.parametrize(
    ("name", "prefix", "words"),
    [
        ("short", "", "384000 bytes read, 384000 more expected"),
        ("absent", "", "404"),
        ("file", "0000", "expected 0000"),
    ],
)
def test_a_failed_download_changes_nothing(server: str, tmp_path: Path, name: str, prefix: str, words: str) -> None:
    """A cut transfer, a server error or a wrong file changes nothing, and the error ends with a remedy."""
    (tmp_path / "f").write_text("old")
    with pytest.raises(DownloadError, match=f"{words}.*Do this"):
        get(f"{server}/{name}", tmp_path / "f", sha256_prefix=prefix)

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("f", "old")]


def test_no_network_is_told(tmp_path: Path) -> None:
    """If no server answers, the error names the address and the remedy."""
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/x: cannot be fetched .*Do this"):
        get("http://127.0.0.1:9/x", tmp_path / "f", sha256_prefix="")


@pytest.mark.parametrize("url", ["http://127.0.0.1/wé.pth", "http://[::1/w.pth", "http://127.0.0.1:x/w"])
def test_addresses_that_make_no_sense_are_told(tmp_path: Path, url: str) -> None:
    """An address that cannot be parsed is an error with a remedy, not a stack trace."""
    with pytest.raises(DownloadError, match="cannot be fetched .*Do this"):
        get(url, tmp_path / "f", sha256_prefix="")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://localhost/x", "data/x.zip"])
def test_only_http_is_opened(tmp_path: Path, url: str) -> None:
    """An address of a local file is an error, so params cannot copy local files into the cache."""
    with pytest.raises(DownloadError, match="expected an http or https address"):
        get(url, tmp_path / "f", sha256_prefix="")


@pytest.mark.parametrize("scheme", ["ftp", "file"])
def test_a_redirect_leads_to_http_only(server: str, tmp_path: Path, scheme: str) -> None:
    """A server cannot send the download to another kind of address."""
    with pytest.raises(DownloadError, match=rf"cannot be fetched \(No connection adapters.*{scheme}://.*Do this"):
        get(f"{server}/to-{scheme}", tmp_path / "f", sha256_prefix="")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "unannounced"])
def test_a_file_has_a_largest_length(server: str, tmp_path: Path, name: str) -> None:
    """A file that is longer than allowed is refused, whether or not the server announces its length."""
    with pytest.raises(DownloadError, match="has more than 100000 bytes, which is the limit.*Do this"):
        get(f"{server}/{name}", tmp_path / "f", sha256_prefix="", max_bytes=100_000)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "slow"])
def test_a_download_has_a_deadline(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A server that sends slowly for ever is given up, even if it sends one byte at a time."""
    monkeypatch.setattr("headstart.base.download.MAX_SECONDS", -1)
    with pytest.raises(DownloadError, match="takes more than -1 seconds, which is the limit.*Do this"):
        get(f"{server}/{name}", tmp_path / "f", sha256_prefix="")


def _limit_file_bytes() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing beyond the limit fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_is_told_and_leaves_nothing(server: str, tmp_path: Path) -> None:
    """If the disk is full, the error names the file, and no part of it remains."""
    code = (
        "from pathlib import Path\nfrom tests.unit.base.test_download import get\n"
        f"get('{server}/file', Path('{tmp_path}/f'), sha256_prefix='')"
    )
    limit: Callable[[], None] = _limit_file_bytes
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, cwd=ROOT)

    assert f"DownloadError: {tmp_path}/f: cannot be written (File too large). Do this." in done.stderr
    assert list(tmp_path.iterdir()) == []
