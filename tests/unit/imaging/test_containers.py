"""AVIF and HEIC give the right upright pixels of their main picture, within the same limits as other formats."""

import io
import struct
import sys
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from headstart.imaging import opening
from headstart.imaging.decode import ImageError, decode, read_header

MAX = 10**6
KINDS = ("AVIF", "HEIF")
pillow_heif.register_heif_opener()
RANDOM = np.random.default_rng(0)
SMOOTH = np.asarray(
    Image.fromarray(RANDOM.integers(0, 256, size=(3, 4, 3), dtype=np.uint8)).resize((48, 32), Image.Resampling.BICUBIC)
)


def encode(pixels: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    """Return the bytes of a file that keeps every pixel nearly as it is."""
    file = io.BytesIO()
    best: dict[str, Any] = {"AVIF": {"quality": 100, "subsampling": "4:4:4"}, "HEIF": {"quality": 95, "chroma": 444}}
    Image.fromarray(pixels).save(file, kind, **best[kind], **options)
    return file.getvalue()


def assert_alike(found: Image.Image, expected: NDArray[np.uint8]) -> None:
    """Assert that a decoded picture has the expected pixels, but for what compression loses."""
    pixels = np.asarray(found)

    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 12
    assert np.abs(pixels.astype(int) - expected).mean() <= 3


def exif_of(orientation: int) -> bytes:
    """Return EXIF with an orientation. Encoders write it into the container too."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a maker of cameras"
    return exif.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photos_are_turned_once(kind: str, orientation: int) -> None:
    """A photo that says in two places that it is turned, in its container and in its EXIF, is turned once."""
    columns = SMOOTH.transpose(1, 0, 2)
    stored = {
        1: SMOOTH,
        2: SMOOTH[:, ::-1],
        3: SMOOTH[::-1, ::-1],
        4: SMOOTH[::-1],
        5: columns,
        6: columns[::-1],
        7: SMOOTH[::-1, ::-1].transpose(1, 0, 2),
        8: columns[:, ::-1],
    }[orientation]
    picture = decode(encode(np.ascontiguousarray(stored), kind, exif=exif_of(orientation)), MAX)

    assert picture.format == kind
    assert_alike(picture.image, SMOOTH)


def test_only_the_container_says_how_a_picture_is_turned() -> None:
    """EXIF or XMP with another orientation than the container turns nothing, as the formats' standards say."""
    exif = Image.Exif()
    exif[0x0112] = 6
    heic = encode(SMOOTH, "HEIF", exif=exif)  # pillow-heif writes what is not bytes into the EXIF alone
    avif = encode(SMOOTH, "AVIF", xmp=b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')

    assert b"irot" not in heic + avif
    for data in (heic, avif):
        picture = decode(data, MAX)
        assert picture.repairs == ()
        assert_alike(picture.image, SMOOTH)


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_and_gray_are_read_as_in_other_formats(kind: str) -> None:
    """A gray picture becomes RGB, and alpha is laid over white."""
    assert_alike(decode(encode(SMOOTH[..., 0], kind), MAX).image, np.repeat(SMOOTH[..., :1], 3, axis=2))

    half = np.dstack([SMOOTH, np.full(SMOOTH.shape[:2], 128, np.uint8)])
    picture = decode(encode(half, kind), MAX)
    assert picture.repairs == ("alpha over white",)
    assert_alike(picture.image, np.rint(SMOOTH * (128 / 255) + 127).astype(np.uint8))


@pytest.mark.parametrize(("kind", "reason"), [("AVIF", "first frame of several"), ("HEIF", "main frame of several")])
def test_of_several_pictures_one_counts_and_that_is_said(kind: str, reason: str) -> None:
    """A sequence gives its first frame, and a burst the picture that the file calls its main one."""
    other = SMOOTH[::-1, ::-1].copy()
    first, second, options = (other, SMOOTH, {"primary_index": 1}) if kind == "HEIF" else (SMOOTH, other, {})
    several = {"save_all": True, "append_images": [Image.fromarray(second)]}
    picture = decode(encode(first, kind, **several, **options), MAX)

    assert picture.repairs == (reason,)
    assert_alike(picture.image, SMOOTH)


def test_deep_colour_of_a_phone_is_reduced_and_that_is_said() -> None:
    """A HEIC of 10 bits gives the pixels in 8 bits; gray of 10 bits is scaled like gray of 16 bits."""
    file = io.BytesIO()
    deep = SMOOTH.astype("<u2") * 257
    pillow_heif.from_bytes("RGB;16", (48, 32), deep.tobytes()).save(file, quality=95, chroma=444)
    picture = decode(file.getvalue(), MAX)
    assert picture.repairs == ("10-bit colour",)
    assert_alike(picture.image, SMOOTH)

    file = io.BytesIO()
    pillow_heif.from_bytes("L;16", (48, 32), deep[..., 0].tobytes()).save(file, quality=95)
    gray = decode(file.getvalue(), MAX)
    assert gray.repairs == ("16-bit gray",)
    assert_alike(gray.image, np.repeat(SMOOTH[..., :1], 3, axis=2))


@pytest.mark.parametrize("kind", KINDS)
def test_the_limits_hold_by_the_header_alone(kind: str) -> None:
    """A large or thin picture is refused by its header; a cut file is damaged."""
    data = encode(SMOOTH, kind)

    header = read_header(data, MAX)
    assert (header.width, header.height) == (48, 32)
    with pytest.raises(ImageError, match="48 x 32 pixels; at most 1000 are allowed"):
        decode(data, 1000)
    with pytest.raises(ImageError, match="2 x 300 pixels: a side is over 100 times the other"):
        decode(encode(np.zeros((300, 2, 3), np.uint8), kind), MAX)
    with pytest.raises(ImageError):
        decode(data[: len(data) * 2 // 3], MAX)


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_lies_gives_no_larger_picture(kind: str) -> None:
    """A file whose header claims a small picture gives no larger one, and is not decoded as a large one."""
    data = encode(np.full((300, 400, 3), 90, np.uint8), kind)
    place = data.index(b"ispe") + 8
    lying = data[:place] + struct.pack(">II", 20, 20) + data[place + 8 :]
    if kind == "AVIF":
        assert decode(lying, 400).image.size == (20, 20)
    else:
        with pytest.raises(ImageError, match="^damaged: .*Security limit exceeded"):
            decode(lying, 400)


def test_damaged_exif_costs_no_pixel() -> None:
    """EXIF without a header is passed over in both, and the turn that the container asks for is made all the same."""
    columns = np.ascontiguousarray(SMOOTH.transpose(1, 0, 2)[::-1])  # orientation 6
    for kind in KINDS:
        data = encode(columns, kind, exif=exif_of(6))
        start = data.index(b"MM\0*") if b"MM\0*" in data else data.index(b"II*\0")
        picture = decode(data[:start] + b"XXXX" + data[start + 4 :], MAX)

        assert "EXIF unreadable, not applied" in picture.repairs, kind
        assert_alike(picture.image, SMOOTH)


def test_without_its_package_a_heic_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pillow-heif a HEIC is an error that names the extra; an AVIF is read, and a video is no image."""
    heic, avif = encode(SMOOTH, "HEIF"), encode(SMOOTH, "AVIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    opening._can_read_heif.cache_clear()
    try:
        with pytest.raises(
            ImageError, match="^HEIC needs the package pillow-heif. Run: make env, or pip install pillow-heif$"
        ):
            decode(heic, MAX)
        with pytest.raises(ImageError, match="^not an image of a known format"):
            decode(b"\0\0\0\x18ftypmp42" + bytes(100), MAX)
        assert_alike(decode(avif, MAX).image, SMOOTH)
    finally:
        opening._can_read_heif.cache_clear()
