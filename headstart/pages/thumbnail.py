"""Thumbnails: verified images, small enough to lie inside a page as `data:` URLs."""

import base64
import hashlib
import io

from PIL import Image

from headstart.imaging.decode import ImageError, decode
from headstart.imaging.scale import OVERSAMPLING

_QUALITY = 70


def thumbnail(data: bytes, digest: str, px: int, max_pixels: int) -> str:
    """Return a small picture of an image file as a `data:` URL.

    Args:
        data: Bytes of the image file.
        digest: sha256 that these bytes must have, in hex digits.
        px: Longest side of the thumbnail in pixels. A smaller image keeps its size and is stored without loss, so that
            a page can enlarge it exactly.
        max_pixels: Largest width x height that is decoded.

    Returns:
        The URL; an empty string if the bytes have another sha256 or cannot be decoded.
    """
    if hashlib.sha256(data).hexdigest() != digest:
        return ""
    try:
        image = decode(data, max_pixels, min_side_px=OVERSAMPLING * px).image
    except ImageError:
        return ""
    if max(image.size) <= px:
        return data_url(image, "webp")
    image.thumbnail((px, px), Image.Resampling.LANCZOS)
    return data_url(image, "webp", quality=_QUALITY)


def data_url(image: Image.Image, file_format: str, quality: int | None = None) -> str:
    """Return an image as a `data:` URL.

    Args:
        image: An image in a mode that the format supports.
        file_format: `png` or `webp`.
        quality: Quality of lossy WebP, 0 to 100; None for no loss.
    """
    file = io.BytesIO()
    if quality is None:
        image.save(file, file_format, lossless=True)  # PNG is always lossless and ignores this
    else:
        image.save(file, file_format, quality=quality)
    return file_url(file.getvalue(), file_format)


def file_url(data: bytes, file_format: str) -> str:
    """Return an image file, `png` or `webp`, as a `data:` URL."""
    return f"data:image/{file_format};base64,{base64.b64encode(data).decode()}"
