"""Formats: the kinds of image files that are read.

To add one, add an entry here and a picture to the canary of the store.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A kind of image file.

    Attributes:
        name: The format's name in Pillow, such as `WEBP`; also what the index calls it.
        extensions: Extensions of its files, lower case, without the dot.
        title: Name for people.
    """

    name: str
    extensions: tuple[str, ...]
    title: str


FORMATS = (
    Format("BMP", ("bmp",), "BMP"),
    Format("GIF", ("gif",), "GIF"),
    Format("JPEG", ("jpeg", "jpg"), "JPEG"),
    Format("PNG", ("png",), "PNG"),
    Format("TIFF", ("tif", "tiff"), "TIFF"),
    Format("WEBP", ("webp",), "WebP"),
)


def format_names() -> tuple[str, ...]:
    """Return the names of all formats, as Pillow takes them."""
    return tuple(one.name for one in FORMATS)


def known_extensions() -> tuple[str, ...]:
    """Return the extensions of all formats, sorted."""
    return tuple(sorted(extension for one in FORMATS for extension in one.extensions))


def titles() -> str:
    """Return the names of all formats for people, in one line."""
    return ", ".join(one.title for one in FORMATS)
