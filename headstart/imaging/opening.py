"""Opening: from the bytes of an image file to a picture that Pillow has open, but not decoded.

Pillow refuses files for parts that no pixel needs: a large colour profile or text in a PNG, damaged EXIF in an AVIF.
They are left out before Pillow sees the file, so they are not inflated either, whatever they would inflate to.
"""

import io
import re
import zlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from PIL import AvifImagePlugin, Image, features
from PIL.JpegImagePlugin import JpegImageFile

from headstart.imaging.formats import HEIF, format_names

EXIF_UNREADABLE = "EXIF unreadable, not applied"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
# The entry of the EXIF in an AVIF's list of items. Items of an unknown type are passed over.
_AVIF_EXIF = rb"(?s)(infe(?:\x02.{7}|\x03.{9}))Exif"
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Keywords of the texts of a PNG that may tell its orientation.
_PNG_ORIENTATIONS = (b"Raw profile type exif", b"XML:com.adobe.xmp")
# Pillow refuses a PNG with a text that inflates to more.
_MOST_TEXT_BYTES = 2**20


class OpeningError(Exception):
    """A file cannot be opened as an image. The message is the reason, in a few words."""


def open_image(data: bytes) -> tuple[Image.Image, list[str]]:
    """Open an image file and read its header.

    Args:
        data: Bytes of the file.

    Returns:
        The picture, whose pixels are not loaded, and what had to be left out of the file, in words.

    Raises:
        OpeningError: The file is not an image of a known format, or one that needs a package that is missing.
    """
    # Pillow's own limit is a global variable and may only warn. The caller checks the size before it loads pixels.
    Image.MAX_IMAGE_PIXELS = None
    names = [name for name in format_names() if name != HEIF.name]
    is_container = data[4:8] == b"ftyp"  # of AVIF and HEIF
    if is_container:
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # many pictures are decoded at once
        names += [HEIF.name] * _can_read_heif()
    data = _without_texts(data)
    left_out: list[str] = []
    try:
        try:
            image = Image.open(io.BytesIO(data), formats=names)
        except Exception:
            bare = re.sub(_AVIF_EXIF, rb"\1free", data) if is_container else data
            if bare == data:
                raise
            image, left_out = Image.open(io.BytesIO(bare), formats=["AVIF"]), [EXIF_UNREADABLE]
    except Exception as error:  # a hostile header may raise any error
        if is_container and data[8:12] in _HEIF_BRANDS and HEIF.name not in names:
            raise OpeningError(
                "HEIC needs the package pillow-heif. Run: make env, or pip install pillow-heif"
            ) from error
        raise OpeningError(f"not an image of a known format ({', '.join(format_names())})") from error
    if image.format == "AVIF":  # only its container says how it is turned, which Pillow writes into `exif`
        image.info.pop("xmp", None)
    return image, left_out


def num_scans(data: bytes) -> int:
    """Return the number of scans of a JPEG. Each goes over the whole picture, however few bytes it has.

    What follows the picture, such as previews or a video, does not count.
    """
    count, position = 0, 2
    marker = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # the others belong to the data of a scan
    while (found := marker.search(data, position)) and found[0] != _END_OF_IMAGE:
        position = found.end()
        count += found[0] == _START_OF_SCAN
        position += int.from_bytes(data[position : position + 2], "big")
    return count


def coefficient_bytes(image: JpegImageFile, data: bytes) -> int:
    """Return the memory of the coefficients that libjpeg keeps of the whole picture: none if one scan has them all."""
    assert image.fp is not None, "the file was opened a moment ago"
    scan = data.rfind(b"\xff\xda", 0, image.fp.tell())  # Pillow has read up to the end of this header
    if "progressive" not in image.info and data[scan + 4] == image.layers:
        return 0
    samplings = [(across, down) for _, across, down, _ in image.layer]
    most = max(across for across, _ in samplings) * max(down for _, down in samplings)
    return 2 * image.width * image.height * sum(across * down for across, down in samplings) // max(1, most)


def decoder_versions() -> dict[str, str | None]:
    """Return the versions of the libraries that decode images, by name; None for one that is not installed."""
    try:
        heif = version("pillow-heif")
    except PackageNotFoundError:
        heif = None
    return {"pillow": version("pillow"), "libjpeg": features.version("jpg"), "pillow-heif": heif}


@cache
def _can_read_heif() -> bool:
    """Return whether pillow-heif is installed. If it is, Pillow can open HEIF from now on."""
    try:
        from pillow_heif import register_heif_opener
    except ModuleNotFoundError:
        return False
    # Only the main picture counts, and many pictures are decoded at once.
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    return True


def _without_texts(data: bytes) -> bytes:
    """Return a PNG without its colour profile and without texts that tell no orientation. Other files stay."""
    if not data.startswith(_PNG_SIGNATURE):
        return data
    kept, start, position = [], 0, len(_PNG_SIGNATURE)
    while position + 8 <= len(data):
        kind = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if kind == b"iCCP" or (kind in _PNG_TEXTS and not _tells_orientation(kind, data[position + 8 : end - 4])):
            kept.append(data[start:position])
            start = end
        position = end
    return b"".join([*kept, data[start:]]) if kept else data


def _tells_orientation(kind: bytes, body: bytes) -> bool:
    """Return whether a text of a PNG may tell the orientation, and is small enough for Pillow."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in _PNG_ORIENTATIONS:
        return False
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return True
    compressed = rest[1:] if kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1]
    try:
        return len(zlib.decompressobj().decompress(compressed, _MOST_TEXT_BYTES + 1)) <= _MOST_TEXT_BYTES
    except zlib.error:
        return False
