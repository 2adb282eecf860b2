"""Effort: ordinary photos are plain, and nothing is plain whose time the structure of the file does not bound."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.hostile_files import many_scans, slow_bitmap
from headstart.imaging.effort import MOST_EFFORT, is_plain
from headstart.imaging.formats import FORMATS, Format, format_of

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def encode(kind: str, image: Image.Image = RGB, **options: object) -> bytes:
    """Return an image as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif_segments(num: int) -> bytes:
    """Return a JPEG with a number of small pieces of EXIF."""
    data = encode("JPEG")
    return data[:2] + (b"\xff\xe1" + struct.pack(">H", 14) + b"Exif\0\0abcdef") * num + data[2:]


def two_headers() -> bytes:
    """Return a JPEG that states its size twice."""
    data = encode("JPEG")
    start = data.index(b"\xff\xc0")
    return data[:start] + data[start : start + 19] + data[start:]


def tiny_chunks(num: int) -> bytes:
    """Return a PNG with a number of empty chunks."""
    data = encode("PNG")
    return data[:33] + (struct.pack(">I", 0) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))) * num + data[33:]


def hidden_scans(num: int) -> bytes:
    """Return a progressive JPEG with many scans where a segment of the marker TEM would be, if it had a length."""
    data = encode("JPEG", RGB.convert("L"), progressive=True)
    end = data.rindex(b"\xff\xda")
    return data[:end] + b"\xff\x01" + bytes.fromhex("ffda0008010100013f00") * num + data[end:]


ORDINARY = {
    "JPEG": (encode("JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", icc_profile=b"p" * 500_000), 1),
    "progressive JPEG": (encode("JPEG", progressive=True), 10),
    "gray progressive JPEG": (many_scans(3, 30), 0.75 * 8),
    "PNG": (encode("PNG"), 8),
    "WebP": (encode("WEBP"), 8),
    "WebP without loss": (encode("WEBP", lossless=True), 8),
    "WebP with alpha": (encode("WEBP", RGB.convert("RGBA").rotate(45)), 8),
    "BMP": (encode("BMP"), 8),
}
UNUSUAL = {
    "JPEG with many pieces of EXIF": exif_segments(300),
    "JPEG with padding": encode("JPEG")[:2] + b"\xff" * 100_000 + encode("JPEG")[2:],
    "JPEG with many scans": many_scans(300, 30),
    "JPEG with hidden scans": hidden_scans(6000),
    "JPEG with two headers": two_headers(),
    "arithmetic JPEG": encode("JPEG").replace(b"\xff\xc0", b"\xff\xc9"),
    "PNG of many chunks": tiny_chunks(20_000),
    "WebP that moves": encode("WEBP", save_all=True, append_images=[RGB.rotate(90)]),
    "compressed BMP": slow_bitmap(5, 5),
    "GIF": encode("GIF"),
    "TIFF": encode("TIFF"),
    "AVIF": encode("AVIF"),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_files_are_plain(name: str) -> None:
    """Their effort is that of their pixels, in each scan."""
    data, per_pixel = ORDINARY[name]
    effort = round(40 * 30 * per_pixel)

    assert is_plain(data, MOST_EFFORT)
    assert is_plain(data, effort)
    assert not is_plain(data, effort - 1)


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_files_are_not_plain(name: str) -> None:
    """They may be harmless, but their structure does not show it."""
    assert not is_plain(UNUSUAL[name], 10**18)


def test_files_of_no_format_are_plain() -> None:
    """They are refused at once, so no helper is started for them."""
    for data in (b"", b"x", b"GET / HTTP/1.1", b"<html>", bytes(100)):
        assert format_of(data) is None
        assert is_plain(data, 0)


@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.name)
def test_what_pillow_would_open_has_a_format(one: Format) -> None:
    """No file that a decoder accepts by its first bytes is taken for one of no format."""
    Image.init()
    accept = Image.OPEN[one.name][1] if one.name in Image.OPEN else None
    for start in (*(encode(kind)[:16] for kind in ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")),
                  b"MM\0*", b"MM\0+", b"II+\0", b"MM*\0", b"II\0*", b"\0\0\0\x18ftypheic"):  # fmt: skip
        if accept and accept(start.ljust(16, b"\0")):
            assert format_of(start) is not None


@given(
    st.sampled_from([data for data, _ in ORDINARY.values()] + list(UNUSUAL.values())),
    st.lists(st.tuples(st.integers(0, 999), st.binary(max_size=8))),
)
def test_any_bytes_have_an_answer(data: bytes, changes: list[tuple[int, bytes]]) -> None:
    """Whatever bytes change, the structure is looked at without an error."""
    changed = bytearray(data[:2000])
    for place, new in changes:
        changed[place : place + len(new)] = new
    assert is_plain(bytes(changed), 10) in (True, False)


@pytest.mark.parametrize("num_bytes", [12, 16, 20, 21, 26, 29])
def test_a_cut_webp_is_no_crash(num_bytes: int) -> None:
    """Of each kind of WebP, a file that ends anywhere in its header can be looked at."""
    for kind in (b"VP8 ", b"VP8L", b"VP8X"):
        is_plain((b"RIFF\x20\0\0\0WEBP" + kind + bytes(20))[:num_bytes], MOST_EFFORT)
