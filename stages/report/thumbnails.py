"""Thumbnails: small versions of the photos of the data set, which lie inside the page.

Their pixels are kept in the pixel cache, so that a second report decodes no photo.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.base.files import code_digests
from headstart.base.progress import Progress
from headstart.base.threads import in_order
from headstart.pages.thumbnail import thumbnail_pixels, thumbnail_url
from headstart.pixels.cache import PixelCache, recipe
from headstart.sources.folder import Folder
from headstart.tables.index import USABLE, IndexRow


class Thumbnails:
    """Makes thumbnails of the photos of one data set.

    Args:
        source: Where the photos of the data set are.
        index: Rows of its index.
        num_threads: Number of threads that read and decode.
        budget: `runtime.pixels`, in bytes.

    Attributes:
        missing: Paths of photos that are missing or have changed, and whose thumbnails are not kept. They have none.
    """

    def __init__(self, source: Folder, index: Sequence[IndexRow], num_threads: int, budget: int) -> None:
        self._source, self._num_threads, self._budget = source, num_threads, budget
        self._rows = {row.digest: row for row in index if row.status in USABLE}
        self.missing: set[str] = set()

    def of(self, digests: Sequence[str], px: int) -> Mapping[str, str]:
        """Return thumbnails as `data:` URLs by digest. A missing photo has none.

        Args:
            digests: Digests of the photos.
            px: Longest side in pixels; smaller photos keep their size.
        """
        rows = [self._rows[digest] for digest in dict.fromkeys(digests)]
        made_by = recipe(thumbnail_px=px, code_of_thumbnails=code_digests("headstart/pages/thumbnail.py"))
        cache = PixelCache({f"{made_by}/{row.digest}": px * px * 3 for row in rows}, self._budget, "report")

        def make(row: IndexRow) -> str:
            name = f"{made_by}/{row.digest}"
            pixels = cache.find(name)
            if pixels is None:
                pixels = self._pixels(row, px)
            if pixels is None:
                return ""
            cache.add(name, pixels)
            return thumbnail_url(pixels, px)

        found = {}
        with Progress("report", len(rows), "thumbnail") as progress:
            for row, address in zip(rows, in_order(make, rows, self._num_threads), strict=True):
                if not address:
                    self.missing.add(row.path)
                else:
                    found[row.digest] = address
                progress.advance(1)
        cache.flush()
        return found

    def _pixels(self, row: IndexRow, px: int) -> NDArray[np.uint8] | None:
        try:
            data = self._source.read(row.path)
        except OSError:
            return None
        return thumbnail_pixels(data, row.digest, px, row.width * row.height)
