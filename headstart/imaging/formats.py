"""Formats: the kinds of image files that can be decoded.

To add a format, add an entry here and a picture to the canary of the store.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A kind of image file.

    Attributes:
        name: Name of the format in Pillow and in the index, such as `WEBP`.
        extensions: Extensions of its files, in lower case, without the dot.
        title: Name for people, such as `WebP`.
        start: Regular expression of the first bytes of its files.
    """

    name: str
    extensions: tuple[str, ...]
    title: str
    start: bytes


# Pillow reads it only with the package pillow-heif.
HEIF = Format("HEIF", ("heic", "heif", "hif"), "HEIC", rb"(?s)....ftyp")
FORMATS = (
    Format("AVIF", ("avif",), "AVIF", rb"(?s)....ftyp"),
    Format("BMP", ("bmp",), "BMP", rb"BM"),
    Format("GIF", ("gif",), "GIF", rb"GIF8[79]a"),
    HEIF,
    Format("JPEG", ("jpeg", "jpg"), "JPEG", rb"\xff\xd8\xff"),
    Format("PNG", ("png",), "PNG", rb"\x89PNG\r\n\x1a\n"),
    Format("TIFF", ("tif", "tiff"), "TIFF", rb"II|MM"),
    Format("WEBP", ("webp",), "WebP", rb"(?s)RIFF....WEBP"),
)


def format_names() -> tuple[str, ...]:
    """Return the names of all formats, for Pillow."""
    return tuple(one.name for one in FORMATS)


def known_extensions() -> tuple[str, ...]:
    """Return the extensions of all formats, sorted."""
    return tuple(sorted(extension for one in FORMATS for extension in one.extensions))


def format_of(data: bytes) -> str | None:
    """Return the name of the first format whose files start as these bytes do; None if there is none."""
    return next((one.name for one in FORMATS if re.match(one.start, data)), None)


def titles() -> str:
    """Return the names of all formats for people, in one line."""
    return ", ".join(one.title for one in FORMATS)
