"""The capture of a photo: which camera took it, and when, as the EXIF of the file says."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from PIL import ExifTags

from headstart.imaging.opening import open_image

_MAKE, _MODEL = ExifTags.Base.Make, ExifTags.Base.Model
_TAKEN, _FRACTION = ExifTags.Base.DateTimeOriginal, ExifTags.Base.SubsecTimeOriginal
_SERIAL = ExifTags.Base.BodySerialNumber
# Bytes before EXIF in JPEG, PNG (as a chunk and as text) and WebP, and the start of a TIFF in either byte order. A file
# without them is not opened, because to open a tiny file takes as long as to decode it.
_MARKS, _TIFF = (b"Exif", b"eXIf", b"exif", b"EXIF"), (b"II*\0", b"MM\0*")
_FORMAT = "%Y:%m:%d %H:%M:%S"
_MOST_LETTERS = 200  # of a camera's name: EXIF may hold 64 KB of text


@dataclass(frozen=True)
class Capture:
    """What a file says about its capture. Both are empty if it says nothing or nothing that can be understood.

    Attributes:
        camera: Make, model and serial number of the camera, as far as the file has them.
        taken: Time by the camera's clock, in ISO 8601 without a time zone, such as `2024-05-01T12:30:00.250000`.
    """

    camera: str
    taken: str


def read_capture(data: bytes) -> Capture:
    """Return what an image file says about its capture. No pixel is decoded, and no file is an error.

    The time is EXIF's DateTimeOriginal with the fraction SubSecTimeOriginal. Other times are not used, because editing
    or copying a file changes them. The time zone is ignored: a camera keeps it during a burst, and most write none. A
    PNG whose EXIF follows the pixels says nothing.

    Args:
        data: Bytes of the file.
    """
    if not data.startswith(_TIFF) and not any(mark in data for mark in _MARKS):
        return Capture("", "")
    try:
        with open_image(data)[0] as image:
            exif = image.getexif()
            details = exif.get_ifd(ExifTags.IFD.Exif) if exif else {}
            names = [_text(one) for one in (exif.get(_MAKE), exif.get(_MODEL), details.get(_SERIAL))]
            taken, fraction = _text(details.get(_TAKEN)), _text(details.get(_FRACTION))
    except Exception:  # noqa: BLE001 - damaged EXIF raises almost any error, and is as good as none
        return Capture("", "")
    return Capture(" ".join(filter(None, names)), _time(taken, fraction))


def _text(value: object) -> str:
    """Return an EXIF text in one line, without control characters; empty for any other value."""
    if not isinstance(value, str):
        return ""
    printable = "".join(letter if letter.isprintable() else " " for letter in value[:_MOST_LETTERS])
    return " ".join(printable.split())


def _time(text: str, fraction: str) -> str:
    try:
        taken = datetime.strptime(text, _FORMAT)  # noqa: DTZ007 - see `read_capture`
    except ValueError:
        return ""
    if fraction.isascii() and fraction.isdecimal():
        taken += timedelta(microseconds=int(fraction[:6].ljust(6, "0")))
    return taken.isoformat()
