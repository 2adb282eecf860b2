"""Formats: the kinds of image files that can be decoded.

To add a format, add an entry here and a picture to the canary of the store.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A kind of image file.

    Attributes:
        name: Name of the format in Pillow and in the index, such as `WEBP`.
        extensions: Extensions of its files, in lower case, without the dot.
        title: Name for people, such as `WebP`.
    """

    name: str
    extensions: tuple[str, ...]
    title: str


# Pillow reads it only with the package pillow-heif.
HEIF = Format("HEIF", ("heic", "heif", "hif"), "HEIC")
FORMATS = (
    Format("AVIF", ("avif",), "AVIF"),
    Format("BMP", ("bmp",), "BMP"),
    Format("GIF", ("gif",), "GIF"),
    HEIF,
    Format("JPEG", ("jpeg", "jpg"), "JPEG"),
    Format("PNG", ("png",), "PNG"),
    Format("TIFF", ("tif", "tiff"), "TIFF"),
    Format("WEBP", ("webp",), "WebP"),
)


def format_names() -> tuple[str, ...]:
    """Return the names of all formats, for Pillow."""
    return tuple(one.name for one in FORMATS)


def known_extensions() -> tuple[str, ...]:
    """Return the extensions of all formats, sorted."""
    return tuple(sorted(extension for one in FORMATS for extension in one.extensions))


def titles() -> str:
    """Return the names of all formats for people, in one line."""
    return ", ".join(one.title for one in FORMATS)
