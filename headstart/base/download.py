"""Downloads: a file arrives whole and is the expected one, or does not arrive at all."""

import time
from pathlib import Path

from headstart.base.errors import DownloadError
from headstart.base.files import atomic_path, sha256_file
from headstart.base.progress import Progress

TIMEOUT_SECONDS = 30  # without any byte
MAX_SECONDS = 6 * 3600
MAX_BYTES = 2**34  # twice the largest published weights of torchvision and timm
_MOST_AT_ONCE = 2**18


def download(url: str, path: Path, *, sha256_prefix: str, stage: str, remedy: str, max_bytes: int = MAX_BYTES) -> None:
    """Fetch a file to `path`, with a progress bar. A failure leaves nothing behind.

    Redirects are followed to other http and https addresses only.

    Args:
        url: Address that begins with http:// or https://.
        path: Path of the file. A file that exists is replaced only by a complete download.
        sha256_prefix: First hex digits of the expected sha256; empty if it is not known.
        stage: Name at the beginning of the progress lines.
        remedy: What the user can do after a failure. Every message ends with it.
        max_bytes: Largest length of the file.

    Raises:
        DownloadError: The address is no http address, there is no network, the server reports an error, the transfer
            is cut short or takes longer than `MAX_SECONDS`, the file is too large or has another sha256, or the disk is
            full.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url}: expected an http or https address. {remedy}")
    import requests  # importing it takes a tenth of a second
    from urllib3.exceptions import HTTPError

    try:
        with atomic_path(path) as temporary:
            try:
                _fetch(url, temporary, stage, max_bytes)
            # ValueError: an address that cannot be parsed, or a limit
            except (requests.RequestException, HTTPError, ValueError) as error:
                raise DownloadError(f"{url}: cannot be fetched ({error}). {remedy}") from error
            found = sha256_file(temporary)
            if not found.startswith(sha256_prefix):
                raise DownloadError(
                    f"{url}: sha256 is {found}, expected {sha256_prefix}: this is another file. {remedy}"
                )
    except OSError as error:
        raise DownloadError(f"{path}: cannot be written ({error.strerror or error}). {remedy}") from error


def _fetch(url: str, path: Path, stage: str, max_bytes: int) -> None:
    """Write what a server sends to a file. The limits are looked at for each piece that arrives, however small."""
    import requests

    deadline, num_bytes = time.monotonic() + MAX_SECONDS, 0
    with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS) as response:
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0))  # 0: the server announces none
        with Progress(stage, total or None, "B") as progress, path.open("wb") as file:
            while data := response.raw.read1(_MOST_AT_ONCE, decode_content=True):
                num_bytes += len(data)
                if max(total, num_bytes) > max_bytes:
                    raise ValueError(f"the file has more than {max_bytes} bytes, which is the limit")
                if time.monotonic() > deadline:
                    raise ValueError(f"the file takes more than {MAX_SECONDS} seconds, which is the limit")
                file.write(data)
                progress.advance(len(data))
