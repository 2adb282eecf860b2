"""Thumbnails: verified images, small enough to lie inside a page as `data:` URLs."""

import base64
import hashlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.imaging.decode import ImageError, decode
from headstart.imaging.scale import OVERSAMPLING

_QUALITY = 70


def thumbnail(data: bytes, digest: str, px: int, max_pixels: int) -> str:
    """Return a small picture of an image file as a `data:` URL; an empty string where `thumbnail_pixels` gives None."""
    pixels = thumbnail_pixels(data, digest, px, max_pixels)
    return "" if pixels is None else thumbnail_url(pixels, px)


def thumbnail_pixels(data: bytes, digest: str, px: int, max_pixels: int) -> NDArray[np.uint8] | None:
    """Return a small picture of an image file, uint8 (height, width, 3).

    Args:
        data: Bytes of the image file.
        digest: sha256 that these bytes must have, in hex digits.
        px: Longest side of the thumbnail in pixels. A smaller image keeps its size.
        max_pixels: Largest width x height that is decoded.

    Returns:
        The pixels; None if the bytes have another sha256 or cannot be decoded.
    """
    if hashlib.sha256(data).hexdigest() != digest:
        return None
    try:
        image = decode(data, max_pixels, min_side_px=OVERSAMPLING * px).image
    except ImageError:
        return None
    image.thumbnail((px, px), Image.Resampling.LANCZOS)
    return np.asarray(image)


def thumbnail_url(pixels: NDArray[np.uint8], px: int) -> str:
    """Return a small picture as a `data:` URL. The arguments are those of `thumbnail_file`."""
    return file_url(thumbnail_file(pixels, px), "webp")


def thumbnail_file(pixels: NDArray[np.uint8], px: int) -> bytes:
    """Return the bytes of a small picture as WebP.

    Args:
        pixels: The picture, uint8 (height, width, 3).
        px: Longest side that it could have had. A smaller one is the whole image, and is stored without loss, so that a
            page can enlarge it exactly.
    """
    return encode(Image.fromarray(pixels), "webp", quality=_QUALITY if max(pixels.shape) >= px else None)


def data_url(image: Image.Image, file_format: str, quality: int | None = None) -> str:
    """Return an image as a `data:` URL. The arguments are those of `encode`."""
    return file_url(encode(image, file_format, quality), file_format)


def encode(image: Image.Image, file_format: str, quality: int | None = None) -> bytes:
    """Return the bytes of an image file.

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
    return file.getvalue()


def file_url(data: bytes, file_format: str) -> str:
    """Return an image file, `png` or `webp`, as a `data:` URL."""
    return f"data:image/{file_format};base64,{base64.b64encode(data).decode()}"
