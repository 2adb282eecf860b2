"""Parts of a file that no pixel needs never cost the picture, and never inflate in memory."""

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from headstart.imaging.decode import ImageError, decode

MAX = 10**6
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, size=(8, 12, 3), dtype=np.uint8)
TURNED = np.ascontiguousarray(RGB.transpose(1, 0, 2)[::-1])  # as a camera stores it with orientation 6
UNREADABLE = "EXIF unreadable, not applied"
LARGE = bytes(RANDOM.integers(0, 4, size=2_000_000, dtype=np.uint8))
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'

BOMB = zlib.compress(bytes(40 * 2**20), 1)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*early: bytes, late: bytes = b"", pixels: Any = RGB) -> bytes:
    """Return a PNG with more chunks before and after its pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = file.getvalue()
    return data[:33] + b"".join(early) + data[33:-12] + late + data[-12:]


def text(kind: bytes, keyword: bytes, body: bytes) -> bytes:
    """Return a text chunk of a PNG; zTXt and iTXt are compressed."""
    packed = zlib.compress(body, 1)
    rest = {b"tEXt": body, b"zTXt": b"\0" + packed, b"iTXt": b"\1\0\0\0" + packed}[kind]
    return chunk(kind, keyword + b"\0" + rest)


ANCILLARY = {
    "a profile": chunk(b"iCCP", b"scanner\0\0" + zlib.compress(LARGE, 1)),
    "a damaged profile": chunk(b"iCCP", b"scanner"),
    "a compressed text": text(b"zTXt", b"Comment", LARGE),
    "a text of a strange kind": chunk(b"zTXt", b"Comment\0\7hello"),
    "an international text": text(b"iTXt", b"Comment", LARGE),
    "a plain text": text(b"tEXt", b"Comment", LARGE),
    "XMP": text(b"iTXt", b"XML:com.adobe.xmp", LARGE),
    "old XMP": text(b"zTXt", b"Raw profile type xmp", LARGE),
    "old EXIF": text(b"zTXt", b"Raw profile type exif", LARGE),
    "a keyword of Pillow's own": text(b"tEXt", b"transparency", b"hello"),
}


@pytest.mark.parametrize("name", ANCILLARY)
def test_a_png_is_ok_whatever_lies_beside_its_pixels(name: str) -> None:
    """Profiles and texts of any size, before or after the pixels, leave an ordinary picture."""
    for data in (png(ANCILLARY[name]), png(late=ANCILLARY[name])):
        picture = decode(data, MAX)

        assert np.array_equal(np.asarray(picture.image), RGB)
        assert picture.repairs == ()


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("keyword", [b"Comment", b"XML:com.adobe.xmp", b"Raw profile type exif"])
def test_a_bomb_beside_the_pixels_does_not_inflate(kind: bytes, keyword: bytes) -> None:
    """A chunk of some kilobytes that would inflate to 40 MB takes hardly any memory."""
    rest = {b"iCCP": b"\0", b"zTXt": b"\0", b"iTXt": b"\1\0\0\0"}[kind] + BOMB
    data = png(chunk(kind, keyword + b"\0" + rest))
    tracemalloc.start()
    picture = decode(data, MAX)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert np.array_equal(np.asarray(picture.image), RGB)
    assert peak < 8 * 2**20


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_other_formats_are_ok_with_large_profiles_too(kind: str) -> None:
    """A colour profile and XMP of two megabytes change neither pixels nor state."""
    options: dict[str, Any] = {"WEBP": {"lossless": True}}.get(kind, {})
    if kind == "TIFF":
        tags = ImageFileDirectory_v2()
        tags[700], tags.tagtype[700] = LARGE, 1
        options = {"tiffinfo": tags}
    elif kind == "WEBP":
        options["xmp"] = LARGE
    plain, large = io.BytesIO(), io.BytesIO()
    Image.fromarray(RGB).save(plain, kind, **({"lossless": True} if kind == "WEBP" else {}))
    Image.fromarray(RGB).save(large, kind, icc_profile=LARGE, **options)
    picture = decode(large.getvalue(), MAX)

    assert len(large.getvalue()) > len(LARGE)
    assert picture.repairs == ()
    assert np.array_equal(np.asarray(picture.image), np.asarray(decode(plain.getvalue(), MAX).image))


@pytest.mark.parametrize("kind", ["plain iTXt", "compressed iTXt", "zTXt"])
def test_texts_that_tell_the_orientation_are_read(kind: str) -> None:
    """A PNG whose orientation is in XMP or in ImageMagick's text is turned upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    hexadecimal = exif.tobytes().hex().encode()
    chunks = {
        "plain iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        "compressed iTXt": text(b"iTXt", b"XML:com.adobe.xmp", XMP),
        "zTXt": text(b"zTXt", b"Raw profile type exif", b"\nexif\n      %d\n%s" % (len(hexadecimal) // 2, hexadecimal)),
    }
    picture = decode(png(chunks[kind], ANCILLARY["a profile"], pixels=TURNED), MAX)

    assert np.array_equal(np.asarray(picture.image), RGB)
    assert picture.repairs == ("EXIF orientation 6",)


def exif_bytes(order: str, *tags: tuple[int, int, int, bytes]) -> bytes:
    """Return EXIF with one directory, by the specification: tag, type, number of values, value."""
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entries = b"".join(struct.pack(f"{order}HHI", *tag[:3]) + tag[3].ljust(4, b"\0") for tag in tags)
    return b"Exif\0\0" + magic + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4)


def with_exif(kind: str, pixels: Any, exif: bytes) -> bytes:
    """Return a file with any bytes as its EXIF."""
    if kind == "PNG":
        return png(chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")), pixels=pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {"quality": 95}))
    return file.getvalue()


BROKEN = {
    "no header": b"Exif\0\0no TIFF header at all",
    "half a header": b"Exif\0\0MM\0*",
    "no directory": b"Exif\0\0MM\0*\0\0\1\0",
    "a cut directory": b"Exif\0\0II*\0\x08\0\0\0\xff\0" + bytes(30),
}


@pytest.mark.filterwarnings("ignore")  # Pillow itself looks for the resolution in a JPEG's EXIF
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("broken", BROKEN)
def test_broken_exif_is_passed_over_in_every_format(kind: str, broken: str) -> None:
    """A picture whose EXIF cannot be read keeps its pixels, and the reason says so."""
    data = with_exif(kind, RGB, BROKEN[broken])
    picture = decode(data, MAX)

    assert picture.repairs == (UNREADABLE,)
    assert np.array_equal(np.asarray(picture.image), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.filterwarnings("ignore")
def test_a_tiff_with_broken_exif_is_turned_as_its_own_tags_say() -> None:
    """The orientation of a TIFF is in the directory of its picture, so broken EXIF behind it changes nothing."""
    row = RGB.tobytes()
    for place in (7, 10**9):
        tags = [(256, 12), (257, 8), (258, 8), (259, 1), (262, 2), (273, 0), (274, 3), (277, 3), (278, 8)]
        tags += [(279, len(row)), (34665, place)]
        start = 8 + 2 + 12 * len(tags) + 4
        entries = [struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags]
        entries[2] = struct.pack("<HHIHH", 258, 3, 1, 8, 0)
        data = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(entries) + bytes(4) + row
        picture = decode(data, MAX)

        assert np.array_equal(np.asarray(picture.image), RGB[::-1, ::-1])
        assert picture.repairs == ("EXIF orientation 3",)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@given(st.sampled_from("<>"), st.integers(0, 9), st.sampled_from([1, 3, 4]))
def test_the_orientation_is_read_as_pillow_reads_it(kind: str, order: str, value: int, type_: int) -> None:
    """Both byte orders and every type of number give the turn that Pillow makes, beside tags that cannot be read."""
    packed = struct.pack(order + {1: "B", 3: "H", 4: "I"}[type_], value)
    strange = (0x010F, 2, 10**6, struct.pack(f"{order}I", 10**6))  # text that lies far behind the end
    exif = exif_bytes(order, strange, (0x0112, type_, 1, packed))
    picture = decode(with_exif(kind, RGB, exif), MAX)

    upright = Image.fromarray(RGB)
    upright.getexif()[0x0112] = value
    from PIL import ImageOps

    expected = ImageOps.exif_transpose(upright)
    assert picture.image.size == expected.size
    if kind != "JPEG":
        assert np.array_equal(np.asarray(picture.image), np.asarray(expected))
    assert picture.repairs == ((f"EXIF orientation {value}",) if 2 <= value <= 8 else ())


def bmp(alpha: int) -> bytes:
    """Return a bitmap of version 5 with 32 bits a pixel."""
    height, width = RGB.shape[:2]
    pixels = np.dstack([RGB[..., ::-1], np.full((height, width), alpha, np.uint8)]).tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, width, -height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    header += struct.pack("<IIII", 4, 0, 0, 0)
    total = 14 + len(header) + len(pixels)
    return b"BM" + struct.pack("<IHHI", total, 0, 0, 14 + len(header)) + header + pixels


def test_a_bitmap_whose_fourth_byte_is_empty_is_opaque() -> None:
    """Programs that know no alpha leave the byte at 0: the picture is shown, and the reason says so."""
    picture = decode(bmp(0), MAX)
    assert np.array_equal(np.asarray(picture.image), RGB)
    assert picture.repairs == ("empty alpha ignored",)

    opaque = decode(bmp(255), MAX)
    assert np.array_equal(np.asarray(opaque.image), RGB)
    assert opaque.repairs == ()
    assert decode(bmp(128), MAX).repairs == ("alpha over white",)


@pytest.mark.parametrize("kind", ["AVIF", "GIF", "PNG", "TIFF", "WEBP"])
def test_a_wholly_transparent_picture_is_refused(kind: str) -> None:
    """A picture of which nothing shows is an error, not a white square to learn from; one pixel is enough."""
    alpha = np.zeros(RGB.shape[:2], np.uint8)
    for is_visible in (False, True):
        alpha[0, 0] = 255 * is_visible
        file = io.BytesIO()
        if kind == "GIF":
            Image.fromarray(np.where(alpha > 0, 1, 0).astype(np.uint8), "P").save(file, kind, transparency=0)
        else:
            Image.fromarray(np.dstack([RGB, alpha])).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
        if is_visible:
            assert "alpha over white" in decode(file.getvalue(), MAX).repairs
        else:
            with pytest.raises(ImageError, match="^wholly transparent$"):
                decode(file.getvalue(), MAX)
