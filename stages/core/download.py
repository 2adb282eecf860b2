"""Downloads: a file arrives whole and is the one expected, or does not arrive at all."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from stages.core.errors import DownloadError
from stages.core.files import atomic_path
from stages.core.progress import Progress

TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 2**18


def download(url: str, path: Path, *, sha256_prefix: str, room: str, remedy: str) -> None:
    """Stream a file to `path` with a progress bar; nothing is left behind on failure.

    Args:
        url: http or https.
        path: Where the file goes; replaced only when all is well.
        sha256_prefix: First hex digits (as many as are known) of the sha256 that the bytes must have.
        room: Who asks; shown in the progress.
        remedy: What the user can do when it fails; ends every message.

    Raises:
        DownloadError: No network, an error of the server, a file cut short, a wrong digest, or a full disk.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: expected an http or https address. {remedy}")
    digest = hashlib.sha256()
    try:
        with atomic_path(path) as temporary:
            try:
                with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response, temporary.open("wb") as file:
                    length = int(response.headers["Content-Length"]) if response.headers["Content-Length"] else None
                    received = 0
                    with Progress(room, length, "B") as progress:
                        while chunk := response.read(_CHUNK_BYTES):
                            digest.update(chunk)
                            received += len(chunk)
                            file.write(chunk)
                            progress.advance(len(chunk))
            except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
                raise DownloadError(f"{url}: cannot be fetched ({error}). {remedy}") from error
            if length is not None and received != length:
                raise DownloadError(f"{url}: cut short: {received} of {length} bytes came. {remedy}")
            if not digest.hexdigest().startswith(sha256_prefix):
                raise DownloadError(
                    f"{url}: is not the expected file: sha256 is {digest.hexdigest()}, expected {sha256_prefix}. {remedy}"
                )
    except OSError as error:
        raise DownloadError(f"{path}: cannot be written ({error.strerror or error}). {remedy}") from error
