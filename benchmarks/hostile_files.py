"""Files that are small and would keep a decoder busy for minutes."""

import io
import struct

from PIL import Image


def many_scans(num: int, side_px: int) -> bytes:
    """Return a progressive JPEG with a number of scans, or a few more, each of which adds nothing."""
    file = io.BytesIO()
    Image.new("L", (side_px, side_px), 128).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    start = data.rfind(b"\xff\xda")
    return data[:start] + data[start:-2] * num + data[-2:]


def slow_bitmap(width: int, height: int) -> bytes:
    """Return a bitmap whose runs are of one pixel each. Pillow decodes them in Python, a million in about a second."""
    pixels = (b"\x01\x05" * width + b"\0\0") * height + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels
