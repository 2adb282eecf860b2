"""Downloads: a file arrives whole and is the expected one, or does not arrive at all."""

import time
from pathlib import Path

from headstart.base.errors import DownloadError
from headstart.base.files import atomic_path, sha256_file
from headstart.base.progress import Progress

TIMEOUT_SECONDS = 30  # without any byte
MAX_SECONDS = 6 * 3600
MAX_BYTES = 2**34  # twice the largest published weights of torchvision and timm
_CHUNK_BYTES = 2**18


def download(url: str, path: Path, *, sha256_prefix: str, stage: str, remedy: str, max_bytes: int = MAX_BYTES) -> None:
    """Fetch a file to `path`, with a progress bar. A failure leaves nothing behind.

    Redirects are followed to other http and https addresses only.

    Args:
        url: Address that begins with http:// or https://.
        path: Path of the file. A file that exists is replaced only by a complete download.
        sha256_prefix: First hex digits of the expected sha256; empty if it is not known.
        stage: Name at the beginning of the progress lines.
        remedy: What the user can do after a failure. Every message ends with it.
        max_bytes: Largest length of the file. It is looked at for every 256 KiB, and so is the time.

    Raises:
        DownloadError: The address is no http address, there is no network, the server reports an error, the transfer
            is cut short or takes longer than `MAX_SECONDS`, the file is too large or has another sha256, or the disk is
            full.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url}: expected an http or https address. {remedy}")
    import pooch  # importing pooch and requests takes a tenth of a second
    import requests

    bar = _Bar(stage, max_bytes)
    fetch = pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK_BYTES, timeout=TIMEOUT_SECONDS)
    try:
        with atomic_path(path) as temporary:
            try:
                fetch(url, str(temporary), None)
            # ValueError: an address that cannot be parsed, or a limit
            except (requests.RequestException, ValueError) as error:
                raise DownloadError(f"{url}: cannot be fetched ({error}). {remedy}") from error
            found = sha256_file(temporary)
            if not found.startswith(sha256_prefix):
                raise DownloadError(
                    f"{url}: sha256 is {found}, expected {sha256_prefix}: this is another file. {remedy}"
                )
    except OSError as error:
        raise DownloadError(f"{path}: cannot be written ({error.strerror or error}). {remedy}") from error
    finally:
        bar.close()


class _Bar:
    """A progress bar for pooch, which sets `total`, calls `update` for each chunk, then `reset` and `close`.

    Attributes:
        total: Announced length in bytes; 0 if the server announces none.
    """

    def __init__(self, stage: str, max_bytes: int) -> None:
        self.total = 0
        self._num_bytes, self._max_bytes = 0, max_bytes
        self._deadline = time.monotonic() + MAX_SECONDS
        self._progress: Progress | None = None
        self._stage, self._is_done = stage, False

    def update(self, count: int) -> None:
        """Count bytes that have arrived.

        Raises:
            ValueError: The file is too large, or takes too long.
        """
        self._num_bytes += count
        if not self._is_done and max(self.total, self._num_bytes) > self._max_bytes:
            raise ValueError(f"the file has more than {self._max_bytes} bytes, which is the limit")
        if time.monotonic() > self._deadline:
            raise ValueError(f"the file takes more than {MAX_SECONDS} seconds, which is the limit")
        if self._progress is None:
            self._progress = Progress(self._stage, self.total or None, "B")
        if not self._is_done:
            self._progress.advance(count)

    def reset(self) -> None:
        """Ignore what follows: pooch counts all bytes once more at the end."""
        self._is_done = True

    def close(self) -> None:
        """Finish the bar."""
        if self._progress is not None:
            self._progress.close()
