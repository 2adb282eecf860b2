"""Every accepted image file gives the right upright RGB pixels, and every other file a reason."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.hostile_files import many_scans
from headstart.imaging.decode import ImageError, decode, read_header
from headstart.imaging.opening import num_scans

MAX = 10**6
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, size=(8, 12, 3), dtype=np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    """Return the decoded pixels, uint8 (H, W, 3)."""
    return np.asarray(decode(data, MAX).image)


def test_plain_rgb_is_untouched() -> None:
    """An ordinary RGB file gives its own pixels and no repair."""
    picture = decode(encode(Image.fromarray(RGB)), MAX)

    assert np.array_equal(np.asarray(picture.image), RGB)
    assert (picture.format, picture.repairs) == ("PNG", ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """A photo taken with the camera turned comes out upright, for all 8 orientations."""
    turned = {  # how a camera stores the upright picture, by the standard's definition of each value
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: RGB.transpose(1, 0, 2)[::-1],
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: RGB.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encode(Image.fromarray(np.ascontiguousarray(turned)), exif=exif), MAX)

    assert np.array_equal(np.asarray(picture.image), RGB)
    assert picture.repairs == (() if orientation == 1 else (f"EXIF orientation {orientation}",))


def test_alpha_is_laid_over_white() -> None:
    """A transparent pixel becomes white, whatever its hidden colour; a half-transparent one becomes a mixture."""
    image = Image.fromarray(np.array([[[10, 20, 30, 0], [0, 0, 0, 128], [1, 2, 3, 255]]], dtype=np.uint8))
    picture = decode(encode(image), MAX)

    assert np.asarray(picture.image).tolist() == [[[255, 255, 255], [127, 127, 127], [1, 2, 3]]]
    assert picture.repairs == ("alpha over white",)


def test_sixteen_bit_gray_is_scaled_not_clipped() -> None:
    """16-bit gray is scaled to 8 bits; a plain conversion would turn all values above 255 white."""
    gray = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    picture = decode(encode(Image.fromarray(gray)), MAX)

    assert np.asarray(picture.image)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert picture.repairs == ("16-bit gray",)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes_become_rgb(mode: str) -> None:
    """Bilevel, gray, palette and CMYK files give the pixels of Pillow's own conversion to RGB."""
    image = Image.fromarray(RGB).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"

    assert np.array_equal(pixels(encode(image, kind)), np.asarray(image.convert("RGB")))


@given(st.integers(1, 100))
def test_truncated_files_are_refused(percent: int) -> None:
    """A file that is cut anywhere is an error; its missing rows are never filled with gray."""
    image = Image.fromarray(RANDOM.integers(0, 256, size=(64, 64, 3), dtype=np.uint8))
    data = encode(image, "JPEG")

    with pytest.raises(ImageError):
        decode(data[: len(data) * percent // 101], MAX)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "zero bytes"),
        (b"<html>not found</html>", "not an image"),
        (b"\x89PNG\r\n\x1a\n garbage", "not an image"),
        (encode(Image.new("F", (2, 2)), "TIFF"), "32-bit pixels"),
    ],
)
def test_files_without_a_picture_say_why(data: bytes, reason: str) -> None:
    """Empty, foreign, damaged and ambiguous files are errors with a short reason."""
    with pytest.raises(ImageError, match=reason):
        decode(data, MAX)


def test_strips_are_refused() -> None:
    """A thin strip is an error, because resizing its short side would make its long side take gigabytes."""
    with pytest.raises(ImageError, match="2 x 60000 pixels: a side is over 100 times the other"):
        decode(encode(Image.new("L", (2, 60000))), MAX)


def test_large_pictures_are_refused_before_decoding() -> None:
    """A picture above the limit is an error by its header alone; its damaged body is not read."""
    data = encode(Image.new("L", (1000, 1001)))

    with pytest.raises(ImageError, match="1000 x 1001 pixels; at most 1000000"):
        decode(data[:60], MAX)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_hostile_bytes_never_crash(noise: bytes, position: int) -> None:
    """Any bytes give a picture or a reason, and never another error."""
    data = bytearray(encode(Image.fromarray(RGB), "GIF"))
    data[position : position + len(noise)] = noise
    try:
        assert decode(bytes(data), MAX).image.mode == "RGB"
    except ImageError as error:
        assert str(error)


def test_a_jpeg_of_thousands_many_scans_is_refused() -> None:
    """A small file that would take minutes, because it goes over all pixels thousands of times, is not decoded."""
    with pytest.raises(ImageError, match=r"2000 x 2000 pixels in 200\d scans, which would take minutes"):
        decode(many_scans(2000, 2000), 10**8)
    with pytest.raises(ImageError, match="scans"):
        read_header(many_scans(2000, 2000), 10**8)
    assert decode(many_scans(20, 200), 10**8).width == 200
    with_video = many_scans(1, 8000) + b"\xff\xda" * 100 + many_scans(1, 90) * 50  # previews and a video after the end
    assert read_header(with_video, 10**8).width == 8000
    assert num_scans(many_scans(2000, 16)) >= 2000
