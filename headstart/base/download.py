"""Downloads: a file arrives whole and is the one expected, or does not arrive at all."""

import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from headstart.base.errors import DownloadError
from headstart.base.files import atomic_path, sha256_file
from headstart.base.progress import Progress

TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 2**18
_NETWORK_ERRORS = (
    urllib.error.URLError,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
    http.client.HTTPException,
    ValueError,  # an address or a header that cannot be parsed
)


def download(url: str, path: Path, *, sha256_prefix: str, stage: str, remedy: str) -> None:
    """Stream a file to `path` with a progress bar; nothing is left behind on failure.

    Args:
        url: http or https.
        path: Where the file goes; replaced only when all is well.
        sha256_prefix: First hex digits (as many as are known) of the sha256 that the bytes must have.
        stage: Who asks; shown in the progress.
        remedy: What the user can do when it fails; ends every message.

    Raises:
        DownloadError: No network, an error of the server, a file cut short, a wrong digest, or a full disk.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url}: expected an http or https address. {remedy}")
    try:
        with atomic_path(path) as temporary:
            with temporary.open("wb") as file:
                received, length = _stream(url, file, stage, remedy)
            if length is not None and received != length:
                raise DownloadError(f"{url}: cut short: {received} of {length} bytes came. {remedy}")
            found = sha256_file(temporary)
            if not found.startswith(sha256_prefix):
                raise DownloadError(f"{url}: sha256 is {found}, expected {sha256_prefix}: another file. {remedy}")
    except OSError as error:
        raise DownloadError(f"{path}: cannot be written ({error.strerror or error}). {remedy}") from error


def _stream(url: str, file: IO[bytes], stage: str, remedy: str) -> tuple[int, int | None]:
    """Copy the body of a response to a file; return how many bytes came and how many were announced."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310  the scheme was checked
            length = int(response.headers["Content-Length"]) if response.headers["Content-Length"] else None
            received = 0
            with Progress(stage, length, "B") as progress:
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
                    received += len(chunk)
                    progress.advance(len(chunk))
    except _NETWORK_ERRORS as error:
        raise DownloadError(f"{url}: cannot be fetched ({error}). {remedy}") from error
    return received, length
