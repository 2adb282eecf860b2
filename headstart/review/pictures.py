"""Pictures: thumbnails and whole photos, made when they are asked for, from files whose sha256 is that of the index."""

import hashlib
import io
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from headstart.base.threads import num_cores
from headstart.imaging.decode import ImageError, decode
from headstart.pages.thumbnail import encode, thumbnail_file, thumbnail_pixels
from headstart.sources.folder import Folder

THUMBNAIL_PX, PHOTO_PX = 192, 4096
_PHOTO_QUALITY = 90
# A smaller picture is sent without loss, so that the page can enlarge it exactly.
_EXACT_PX = 512
_CACHE_BYTES = 64 * 2**20


class Pictures:
    """Makes pictures in a few threads, and keeps the last thumbnails in memory.

    Args:
        source: Where the images are.
        max_pixels: Largest width x height that is decoded.
    """

    def __init__(self, source: Folder, max_pixels: int) -> None:
        self._source, self._max_pixels = source, max_pixels
        self._pool = ThreadPoolExecutor(num_cores(), thread_name_prefix="pictures")
        self._one_photo = threading.Lock()  # a photo of 100 megapixels takes a gigabyte
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._num_bytes = 0
        self._mutex = threading.Lock()

    def thumbnail(self, digest: str, path: str) -> "Future[bytes | None]":
        """Return a WebP whose longest side has at most 192 pixels; None if the file is not what the index lists.

        Args:
            digest: sha256 of the file, as the index lists it.
            path: Path of the file, from the index.
        """
        with self._mutex:
            if digest in self._kept:
                self._kept.move_to_end(digest)
                ready: Future[bytes | None] = Future()
                ready.set_result(self._kept[digest])
                return ready
        return self._pool.submit(self._make_thumbnail, digest, path)

    def photo(self, digest: str, path: str) -> "Future[tuple[bytes, str] | None]":
        """Return the upright photo, whose sides have at most 4096 pixels, and its media type; None as `thumbnail`."""
        return self._pool.submit(self._make_photo, digest, path)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _make_thumbnail(self, digest: str, path: str) -> bytes | None:
        try:
            pixels = thumbnail_pixels(self._source.read(path), digest, THUMBNAIL_PX, self._max_pixels)
        except OSError:
            return None
        if pixels is None:
            return None
        data = thumbnail_file(pixels, THUMBNAIL_PX)
        with self._mutex:
            if digest not in self._kept:
                self._kept[digest] = data
                self._num_bytes += len(data)
            while self._num_bytes > _CACHE_BYTES:
                self._num_bytes -= len(self._kept.popitem(last=False)[1])
        return data

    def _make_photo(self, digest: str, path: str) -> tuple[bytes, str] | None:
        with self._one_photo:
            try:
                data = self._source.read(path)
                if hashlib.sha256(data).hexdigest() != digest:
                    return None
                image = decode(data, self._max_pixels, min_side_px=PHOTO_PX).image
            except (OSError, ImageError):
                return None
            if max(image.size) < _EXACT_PX:
                return encode(image, "webp"), "image/webp"
            image.thumbnail((PHOTO_PX, PHOTO_PX), Image.Resampling.LANCZOS)
            file = io.BytesIO()
            image.save(file, "jpeg", quality=_PHOTO_QUALITY)
            return file.getvalue(), "image/jpeg"
