"""Thumbnails: photos small enough to lie inside the page."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from headstart.base.progress import Progress
from headstart.base.threads import in_order
from headstart.imaging.decode import ImageError, decode
from headstart.tables.index import USABLE, IndexRow

_QUALITY = 70


class Thumbnails:
    """Makes thumbnails of the photos of one data set.

    Args:
        folder: The data set's.
        index: Its index.
        num_threads: That read and decode.

    Attributes:
        missing: Paths of photos that are not there, or no longer what they were: they have no thumbnail.
    """

    def __init__(self, folder: Path, index: Sequence[IndexRow], num_threads: int) -> None:
        self._folder, self._num_threads = folder, num_threads
        self._rows = {row.digest: row for row in index if row.status in USABLE}
        self.missing: set[str] = set()

    def of(self, digests: Sequence[str], px: int) -> Mapping[str, str]:
        """Return `data:` addresses of thumbnails by digest, none for a photo that is missing.

        Args:
            digests: Of the photos.
            px: Longest side; smaller photos stay as they are.
        """
        rows = [self._rows[digest] for digest in dict.fromkeys(digests)]
        found = {}
        with Progress("report", len(rows), "thumbnail") as progress:
            for row, address in zip(
                rows, in_order(lambda row: self._make(row, px), rows, self._num_threads), strict=True
            ):
                if address is None:
                    self.missing.add(row.path)
                else:
                    found[row.digest] = address
                progress.advance(1)
        return found

    def _make(self, row: IndexRow, px: int) -> str | None:
        try:
            data = (self._folder / row.path).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != row.digest:
            return None
        try:
            image = decode(data, max_pixels=row.width * row.height).image
        except ImageError:
            return None
        file = io.BytesIO()
        if max(image.size) <= px:  # a digit of 8 x 8 pixels: exact, the page enlarges it
            image.save(file, "WEBP", lossless=True)
        else:
            image.thumbnail((px, px), Image.Resampling.LANCZOS)
            image.save(file, "WEBP", quality=_QUALITY)
        return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
