"""The orientation of a photo: how its EXIF or XMP says that the camera was turned. Pillow's reader is not used.

Pillow treats damaged EXIF in another way in every format: it passes it over, prints a warning or refuses the picture.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

_TAG = 0x0112
# What turns a stored picture upright, by the values of the tag. A picture with another value is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Values of the orientation that swap the sides, and that turn the right and the bottom edge into a left and a top one.
SWAPS_SIDES = (5, 6, 7, 8)
FLIPS_X, FLIPS_Y = (2, 3, 6, 7), (3, 4, 7, 8)
_ORDERS = {b"II": "<", b"MM": ">"}
# Some programs write the 42 of a TIFF header in the wrong byte order.
_MAGIC = (b"*\0", b"\0*")
_PREFIX = b"Exif\0\0"
# Types of a tag's value: BYTE, SHORT and LONG.
_TYPES = {1: "B", 3: "H", 4: "I"}
_XMP = rb'tiff:Orientation(?:="|>)([0-9])'


def read_orientation(info: Mapping[Any, Any]) -> int | None:
    """Return the orientation that a picture's metadata gives, 1 to 8 in a proper file; None if they give none.

    EXIF counts before XMP.

    Args:
        info: `Image.info` of a picture whose pixels are loaded, because a PNG may have its EXIF after its pixels.

    Raises:
        ValueError: The EXIF cannot be read.
    """
    exif = info.get("exif")
    if exif is None and "Raw profile type exif" in info:  # ImageMagick's text chunk of a PNG
        exif = bytes.fromhex("".join(str(info["Raw profile type exif"]).split("\n")[3:]))
    orientation = _read_exif(exif) if isinstance(exif, bytes) and exif else None
    if orientation is None:
        xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
        found = re.search(_XMP, xmp.encode() if isinstance(xmp, str) else xmp)
        orientation = int(found[1]) if found else None
    return orientation


def _read_exif(exif: bytes) -> int | None:
    """Return the value of the tag in the first directory; None if it is not there or is no single number."""
    while exif.startswith(_PREFIX):
        exif = exif[len(_PREFIX) :]
    order = _ORDERS.get(exif[:2])
    if order is None or exif[2:4] not in _MAGIC:
        raise ValueError("EXIF has no TIFF header")
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (num_tags,) = struct.unpack_from(f"{order}H", exif, start)
        for position in range(start + 2, start + 2 + 12 * num_tags, 12):
            tag, kind, num_values = struct.unpack_from(f"{order}HHI", exif, position)
            if tag == _TAG:
                if kind not in _TYPES or num_values != 1:
                    return None
                return int(struct.unpack_from(order + _TYPES[kind], exif, position + 8)[0])
    except struct.error as error:
        raise ValueError("EXIF ends within its first directory") from error
    return None
