"""Thumbnails: small versions of the photos of the data set, which lie inside the page."""

from collections.abc import Mapping, Sequence

from headstart.base.progress import Progress
from headstart.base.threads import in_order
from headstart.pages.thumbnail import thumbnail
from headstart.sources.folder import Folder
from headstart.tables.index import USABLE, IndexRow


class Thumbnails:
    """Makes thumbnails of the photos of one data set.

    Args:
        source: Where the photos of the data set are.
        index: Rows of its index.
        num_threads: Number of threads that read and decode.

    Attributes:
        missing: Paths of photos that are missing or have changed. They have no thumbnail.
    """

    def __init__(self, source: Folder, index: Sequence[IndexRow], num_threads: int) -> None:
        self._source, self._num_threads = source, num_threads
        self._rows = {row.digest: row for row in index if row.status in USABLE}
        self.missing: set[str] = set()

    def of(self, digests: Sequence[str], px: int) -> Mapping[str, str]:
        """Return thumbnails as `data:` URLs by digest. A missing photo has none.

        Args:
            digests: Digests of the photos.
            px: Longest side in pixels; smaller photos keep their size.
        """
        rows = [self._rows[digest] for digest in dict.fromkeys(digests)]
        found = {}
        with Progress("report", len(rows), "thumbnail") as progress:
            for row, address in zip(
                rows, in_order(lambda row: self._make(row, px), rows, self._num_threads), strict=True
            ):
                if not address:
                    self.missing.add(row.path)
                else:
                    found[row.digest] = address
                progress.advance(1)
        return found

    def _make(self, row: IndexRow, px: int) -> str:
        try:
            data = self._source.read(row.path)
        except OSError:
            return ""
        return thumbnail(data, row.digest, px, row.width * row.height)
