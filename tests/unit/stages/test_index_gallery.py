"""A gallery of odd files: each has the documented state, and accepted ones have the pixels of a reference."""

import base64
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headstart.imaging.decode import decode, upright_rgb
from headstart.sources.folder import Folder
from stages.index.build import build_index
from tests.conftest import index_params

MAX_PIXELS = 50_000_000
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, size=(16, 24, 3), dtype=np.uint8)
OTHER = Image.fromarray(RGB[::-1].copy())
# `cjpeg -arithmetic -quality 100 -sample 1x1` of a gradient; Pillow cannot write one.
ARITHMETIC = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV009930RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI4"
    "0RaI40RaI40sq?oLjeH+0RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RaI40RjKX"
    "01*fP5C9kh0TBQK5di}c0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zf#0QX_QdTm1^`h;+`yQ`=XqH$i)byc>&mvs+v_!bhzCfT~3"
    "`kt`s2tyr3`g4IJsegTAb(F4j&RATqauaeh!GK(?1gF2G^=eu1u)M*yH%rLPb(zPTh9BQKr94x<=&L{Iu>+5aGdB^fb&VpfHuu{J"
    "sknYK6r4>+p@OJUL;k__f6H=bh=AYm;T-@K?+HgMA|@3B-"
    "EJ%3H(!)wFu*z9iEGi(+9bF6LCbzp)LfJZ$|()i_y+zsnr!}`7*tlsVXqb+;?!XO*#"
)
Pixels = NDArray[np.uint8]
Odd = tuple[str, bytes, str, str, Pixels | None]  # name, bytes, state, beginning of the reason, pixels


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image's file bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(size: tuple[int, int], depth: int, colour: int, rows: list[bytes], hole: tuple[int, ...] = ()) -> bytes:
    """Return a PNG of packed rows, by the specification. The colour `hole`, if given, is transparent."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    transparent = [(b"tRNS", struct.pack(f">{len(hole)}H", *hole))] if hole else []
    chunks = ((b"IHDR", header), *transparent, (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def png_of_16_bits(values: NDArray[np.uint16], hole: tuple[int, ...] = ()) -> bytes:
    """Return a PNG with 16 bits per channel, of values (H, W, 1 to 4). Pillow writes only gray ones."""
    height, width, channels = values.shape
    rows = [row.astype(">u2").tobytes() for row in values]
    return png((width, height), 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], rows, hole)


def tiff_of_gray(bits: int, pixels: bytes, photometric: int | None = 1, order: str = "<") -> bytes:
    """Return an uncompressed TIFF of 4 x 4 gray pixels, by the specification."""
    meaning = [] if photometric is None else [(262, photometric)]  # 0: white is zero; 1: black is
    tags = [(256, 4), (257, 4), (258, bits), (259, 1), *meaning, (273, 0), (277, 1), (278, 4), (279, len(pixels))]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [struct.pack(order + "HHIHH", tag, 3, 1, start if tag == 273 else value, 0) for tag, value in tags]
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, len(tags))
    return header + b"".join(entries) + bytes(4) + pixels


def png_header(width: int, height: int) -> bytes:
    """Return a tiny PNG whose header claims any width and height: a decompression bomb."""
    data = bytearray(encode(Image.new("L", (1, 1)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def over_white(values: NDArray[Any]) -> Pixels:
    """Return RGBA (H, W, 4) blended over white, by the definition."""
    colour, alpha = values[..., :3].astype(float), values[..., 3:].astype(float) / 255
    return np.asarray(np.rint(colour * alpha + 255 * (1 - alpha)), dtype=np.uint8)


def turned(orientation: int) -> Pixels:
    """Return the picture RGB as a camera stores it for an EXIF orientation, by the standard."""
    columns = RGB.transpose(1, 0, 2)
    stored = (
        *(RGB, RGB[:, ::-1], RGB[::-1, ::-1], RGB[::-1]),
        *(columns, columns[::-1], RGB[::-1, ::-1].transpose(1, 0, 2), columns[:, ::-1]),
    )[orientation - 1]
    return np.ascontiguousarray(stored)


def exif_files() -> Iterator[Odd]:
    """Give files with all eight orientations."""
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        reason = "" if orientation == 1 else f"EXIF orientation {orientation}"
        for kind in ("PNG", "TIFF"):  # Pillow turns a TIFF by itself
            data = encode(Image.fromarray(turned(orientation)), kind, exif=exif)
            yield f"orientation {orientation}.{kind.lower()}", data, "repaired" if reason else "ok", reason, RGB


def colour_files() -> Iterator[Odd]:
    """Give files with every kind of pixel."""
    gray, values = Image.fromarray(RGB).convert("L"), RANDOM.integers(0, 65536, size=(5, 7, 3)).astype(np.uint16)
    rgba = np.dstack([RGB, RANDOM.integers(0, 256, size=RGB.shape[:2], dtype=np.uint8)])
    white = over_white(rgba)
    palette = Image.fromarray(RGB).quantize(16)
    holes = palette.copy()
    kept = np.array(palette.convert("RGB"))
    kept[np.asarray(palette) == 3] = 255
    cmyk = Image.fromarray(np.full((8, 8, 4), (0, 64, 255, 32), dtype=np.uint8), "CMYK")
    ink = np.broadcast_to(np.array([223, 167, 0], dtype=np.uint8), (8, 8, 3))  # (255 - ink) (255 - black) / 255
    gray_of = np.repeat(np.asarray(gray)[..., None], 3, axis=2)
    scaled = np.repeat(((values[..., :1].astype(int) + 128) // 257).astype(np.uint8), 3, axis=2)
    la = np.dstack([np.asarray(gray), rgba[..., 3]])
    yield "gray.png", encode(gray, "PNG"), "ok", "", gray_of
    yield "1-bit.png", encode(gray.convert("1"), "PNG"), "ok", "", np.asarray(gray.convert("1").convert("RGB"))
    yield "16-bit gray.png", png_of_16_bits(values[..., :1]), "repaired", "16-bit gray", scaled
    yield "16-bit rgb.png", png_of_16_bits(values), "repaired", "16-bit colour", (values >> 8).astype(np.uint8)
    yield "palette.png", encode(palette, "PNG"), "repaired", "palette", np.asarray(palette.convert("RGB"))
    yield "holes.png", encode(holes, "PNG", transparency=3), "repaired", "palette, alpha over white", kept
    yield "la.png", encode(Image.fromarray(la, "LA"), "PNG"), "repaired", "alpha", over_white(la[..., [0, 0, 0, 1]])
    yield "rgba.png", encode(Image.fromarray(rgba), "PNG"), "repaired", "alpha over white", white
    opaque = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    yield "opaque rgba.png", encode(Image.fromarray(opaque), "PNG"), "ok", "", RGB
    yield "cmyk.tiff", encode(cmyk, "TIFF"), "repaired", "CMYK", ink
    # Adobe's JPEGs store inverted ink and say so in a marker; Pillow writes them so.
    yield "adobe cmyk.jpg", encode(cmyk, "JPEG", quality=100), "repaired", "CMYK", ink
    yield "float.tiff", encode(Image.new("F", (4, 4)), "TIFF"), "quarantined", "32-bit pixels", None


def deep_tiff_files() -> Iterator[Odd]:
    """Give TIFFs of gray with more than 8 bits, and one with 8 bits whose zero is white."""
    values = RANDOM.integers(0, 65536, size=(4, 4)).astype(np.uint16)
    scaled = np.repeat(((values[..., None].astype(int) + 128) // 257).astype(np.uint8), 3, axis=2)
    little, unsaid = values.astype("<u2").tobytes(), "16-bit gray whose tags do not say that zero is black"
    yield "12-bit gray.tif", tiff_of_gray(12, b"\xff" * 24), "quarantined", "12-bit gray is not supported", None
    yield "white is zero.tif", tiff_of_gray(16, little, photometric=0), "quarantined", unsaid, None
    yield "no meaning.tif", tiff_of_gray(16, little, photometric=None), "quarantined", unsaid, None
    yield "little end.tif", tiff_of_gray(16, little), "repaired", "16-bit gray", scaled
    big = values.astype(">u2").tobytes()
    yield "big end.tif", tiff_of_gray(16, big, order=">"), "repaired", "16-bit gray", scaled
    # Pillow reads 8 bits correctly, so these are accepted.
    inverted = np.repeat(255 - np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 3, axis=2)
    yield "8-bit white is zero.tif", tiff_of_gray(8, bytes(range(16)), photometric=0), "ok", "", inverted


def hole_files() -> Iterator[Odd]:
    """Give PNGs with one transparent colour. It applies to the values in the file, before they become 8 bits."""
    white = "alpha over white"
    for depth, steps in ((1, 255), (2, 85), (4, 17), (8, 1)):
        grays = np.arange(16).reshape(4, 4) % 2**depth
        packed = [sum(int(gray) << depth * (3 - i) for i, gray in enumerate(row)) for row in grays]
        rows = [(row << -4 * depth % 8).to_bytes((4 * depth + 7) // 8, "big") for row in packed]
        for hole in (0, 1):
            shown = np.repeat(np.where(grays == hole, 255, grays * steps)[..., None], 3, axis=2).astype(np.uint8)
            yield f"{depth}-bit, hole {hole}.png", png((4, 4), depth, 0, rows, (hole,)), "repaired", white, shown
    deep = np.array([[[0], [1], [514], [65535]]], dtype=np.uint16)  # 0 and 1 become the same gray
    kept = np.repeat(np.array([[[0], [255], [2], [255]]], dtype=np.uint8), 3, axis=2)
    yield "16-bit, hole.png", png_of_16_bits(deep, (1,)), "repaired", f"16-bit gray, {white}", kept
    unused = np.repeat(np.array([[[0], [0], [2], [255]]], dtype=np.uint8), 3, axis=2)
    yield "16-bit, unused hole.png", png_of_16_bits(deep, (2,)), "repaired", "16-bit gray", unused
    colours = np.repeat(np.array([[[64], [0x40FF]]], dtype=np.uint16), 3, axis=2)
    lost = "16-bit colour with one transparent colour is not supported"
    yield "16-bit colour, hole.png", png_of_16_bits(colours, (64, 64, 64)), "quarantined", lost, None
    colour = np.where((RGB[0, 0] == RGB).all(axis=2, keepdims=True), 255, RGB).astype(np.uint8)
    hole_of = tuple(int(value) for value in RGB[0, 0])
    yield "colour, hole.png", encode(Image.fromarray(RGB), "PNG", transparency=hole_of), "repaired", white, colour


def container_files() -> Iterator[Odd]:
    """Give files with several frames, other kinds of JPEG, and bytes after the end."""
    image = Image.fromarray(RGB)
    exact = image.quantize(64)
    flat = np.asarray(exact.convert("RGB"))
    several: dict[str, Any] = {"save_all": True, "append_images": [OTHER]}
    frames = "first frame of several"
    yield "moving.gif", encode(exact, "GIF", **several), "repaired", f"{frames}, palette", flat
    yield "still.gif", encode(exact, "GIF"), "repaired", "palette", flat
    yield "moving.webp", encode(image, "WEBP", lossless=True, **several), "repaired", frames, RGB
    yield "moving.png", encode(image, "PNG", **several), "repaired", frames, RGB
    yield "pages.tif", encode(image, "TIFF", **several), "repaired", frames, RGB
    jpeg = encode(image, "JPEG", quality=90)
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)))
    yield "progressive.jpg", encode(image, "JPEG", quality=90, progressive=True), "ok", "", pixels
    gradient = np.mgrid[:16, :24]
    ramp = np.stack([gradient[1] * 10, gradient[0] * 15, (gradient[0] + gradient[1]) * 6], axis=-1).astype(np.uint8)
    yield "arithmetic.jpg", ARITHMETIC, "ok", "", ramp
    yield "garbage behind.jpg", jpeg + b"garbage" * 99, "ok", "", pixels
    yield "UPPER.JPEG", encode(image, "JPEG", quality=91), "ok", "", None
    yield "really a png.jpg", encode(image, "PNG", compress_level=1), "ok", "", RGB


def bad_files() -> Iterator[Odd]:
    """Give files that are no images, damaged images, and images that are too large."""
    noise = Image.fromarray(RANDOM.integers(0, 256, size=(64, 64, 3), dtype=np.uint8))
    for kind, suffix in (("JPEG", "jpg"), ("PNG", "png")):
        data = encode(noise, kind)
        for percent in (1, 10, 50, 90, 99):
            yield f"cut at {percent}.{suffix}", data[: len(data) * percent // 100], "quarantined", "", None
    unknown = "not an image of a known format"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    yield "empty.png", b"", "quarantined", "zero bytes", None
    yield "text.jpg", b"hello", "quarantined", unknown, None
    yield "page.png", b"<!doctype html><title>404</title>", "quarantined", unknown, None
    yield "drawing.svg", svg, "skipped", "extension .svg is not in index.extensions", None
    yield "drawing.png", svg, "quarantined", unknown, None
    yield (
        "one.png",
        encode(Image.new("RGB", (1, 1), "red"), "PNG"),
        "ok",
        "one colour",
        np.array([[[255, 0, 0]]], dtype=np.uint8),
    )
    yield "strip.png", encode(Image.new("L", (20000, 2)), "PNG"), "quarantined", "20000 x 2 pixels: a side", None
    yield "bomb.png", png_header(60_000, 60_000), "quarantined", "60000 x 60000 pixels; at most 50000000", None


GALLERY = [*exif_files(), *colour_files(), *deep_tiff_files(), *hole_files(), *container_files(), *bad_files()]
# The reason of these files is also the beginning of a longer one, so it is compared as a whole.
WHOLE_REASONS = ("little end.tif", "big end.tif", "16-bit, unused hole.png")


@pytest.mark.parametrize(("name", "data", "state", "reason", "pixels"), GALLERY, ids=[one[0] for one in GALLERY])
def test_every_odd_file_has_its_state_and_its_pixels(
    tmp_path: Path, name: str, data: bytes, state: str, reason: str, pixels: Pixels | None
) -> None:
    """State and reason are the documented ones, and the pixels of an accepted file equal the reference."""
    Image.new("RGB", (9, 9)).save(tmp_path / "ordinary.png")
    (tmp_path / name).write_bytes(data)
    rows = {row.path: row for row in build_index(
        Folder(tmp_path), Folder(tmp_path).list_files(),
        index_params(extensions=["gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"],
        max_pixels=MAX_PIXELS), num_workers=1
    )}  # fmt: skip

    assert rows[name].status == state, rows[name].reason
    assert rows[name].reason == reason if name in WHOLE_REASONS else rows[name].reason.startswith(reason)
    assert bool(rows[name].reason) == (state != "ok" or bool(reason))
    if state in ("ok", "repaired"):
        found = np.asarray(decode(data, MAX_PIXELS).image)
        assert (rows[name].height, rows[name].width) == found.shape[:2]
        if pixels is not None:
            # The reference of a lossy file is the picture before it was encoded.
            tolerance = {"arithmetic.jpg": 2, "adobe cmyk.jpg": 1}.get(name, 0)
            assert np.abs(found.astype(int) - pixels).max() <= tolerance


def test_a_picture_in_memory_is_left_alone() -> None:
    """A picture that is open but not loaded gives the pixels of its file, and keeps its transparent colour."""
    data = png((4, 1), 4, 0, [b"\x01\x23"], (1,))
    image = Image.open(io.BytesIO(data))

    assert np.asarray(upright_rgb(image).image)[0, :, 0].tolist() == [0, 255, 34, 51]
    assert image.info["transparency"] == 1


def a_folder(path: Path) -> None:
    """Make a folder with the name of an image."""
    path.mkdir()


def a_broken_link(path: Path) -> None:
    """Make a link to nothing."""
    path.symlink_to("nowhere")


def a_looping_link(path: Path) -> None:
    """Make a link to itself."""
    path.symlink_to(path.name)


def an_unreadable_file(path: Path) -> None:
    """Make a file without read permission. Root can read it anyway, so for root it must be used."""
    Image.new("RGB", (7, 7)).save(path)
    path.chmod(0)


@pytest.mark.parametrize(
    ("make", "state", "reason"),
    [
        (a_folder, None, ""),
        (a_broken_link, "quarantined", "cannot be read: No such file"),
        (a_looping_link, "quarantined", "cannot be read: "),
        (os.mkfifo, "skipped", "not a regular file"),
        (an_unreadable_file, "ok" if os.geteuid() == 0 else "quarantined", "" if os.geteuid() == 0 else "cannot be"),
    ],
)
def test_what_is_no_ordinary_file_has_its_state(
    tmp_path: Path, make: Callable[[Path], None], state: str | None, reason: str
) -> None:
    """Folders are not files, links are followed, and a pipe is not opened, because that would wait for ever."""
    Image.new("RGB", (9, 9)).save(tmp_path / "ordinary.png")
    make(tmp_path / "x.jpg")
    listing = Folder(tmp_path).list_files()
    rows = {row.path: row for row in build_index(Folder(tmp_path), listing, index_params(), num_workers=1)}

    assert rows["ordinary.png"].status == "ok"
    if state is None:
        assert set(rows) == {"ordinary.png"}
        assert listing.empty_folders == ["x.jpg"]
    else:
        assert rows["x.jpg"].status == state
        assert rows["x.jpg"].reason.startswith(reason)
