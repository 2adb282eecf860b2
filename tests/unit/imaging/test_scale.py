"""Pictures that are reduced when they are decoded: how far, which ones, and that nothing else changes."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from headstart.imaging.decode import ImageError, decode, read_header, upright_rgb
from headstart.imaging.scale import OVERSAMPLING, reduced_size, reduction
from headstart.imaging.transform import Transform, make_views

SIDES = st.integers(1, 20_000)
DEFAULT = Transform(256, 224, squash=False, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture with coarse and fine structure, in mode RGB."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(40, 216, size=(6, 8, 3), dtype=np.uint8)).resize((width, height))
    noisy = np.asarray(coarse).astype(int) + draw.integers(-20, 21, size=(height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image's file bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two pictures of one size, in levels."""
    return float(np.mean(ImageStat.Stat(ImageChops.difference(one, other)).mean))


@given(SIDES, SIDES, SIDES)
def test_enough_pixels_are_left_and_not_many_more(width: int, height: int, min_side_px: int) -> None:
    """The shorter side keeps at least what its reader needs, and a larger factor of JPEG would leave too little."""
    factor = reduction(width, height, min_side_px)
    left = min(reduced_size(width, height, min_side_px))

    assert left >= min(min_side_px, width, height)
    assert factor in (1, 2, 4, 8)
    assert factor == 8 or min(width, height) < 2 * factor * min_side_px
    assert reduction(height, width, min_side_px) == factor


@given(SIDES, SIDES)
def test_the_whole_picture_is_never_reduced(width: int, height: int) -> None:
    """A reader that needs the whole picture gets it."""
    assert reduced_size(width, height, None) == (width, height)


@given(st.integers(1, 64), st.integers(0, 2**32 - 1), st.booleans())
def test_every_view_finds_its_pixels(num_views: int, seed: int, squash: bool) -> None:
    """The part of a reduced picture that a view shows has at least `OVERSAMPLING` times the pixels of the view."""
    transform = Transform(256, 224, squash=squash, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
    for view in make_views(num_views, seed):
        side = view.min_side_px(transform)
        if view.box is None:
            assert side >= OVERSAMPLING * max(transform.resized(side, side))
        else:
            left, top, right, bottom = view.box
            assert side * min(right - left, bottom - top) >= OVERSAMPLING * transform.crop_px


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"subsampling": 0}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "MPO", {"save_all": True, "append_images": [Image.new("RGB", (168, 120))]}),
        ("RGB", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("P", "PNG", {}),
        ("RGB", "TIFF", {}),
        ("RGB", "WEBP", {"quality": 95}),
    ],
)
def test_a_reduced_picture_is_the_same_picture(orientation: int, mode: str, kind: str, options: dict[str, Any]) -> None:
    """It has the size that was said, stands upright, shows the same as the means of boxes, and has the same repairs."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(168, 120).convert(mode), kind, exif=exif, **options)
    whole = decode(data, 10**6)
    for min_side_px, factor in ((1, 8), (15, 8), (16, 4), (30, 4), (60, 2), (61, 1)):
        small = decode(data, 10**6, min_side_px)

        assert (small.width, small.height) == (whole.width, whole.height) == whole.image.size
        assert small.image.size == reduced_size(*whole.image.size, min_side_px)
        assert (small.repairs, small.format) == (whole.repairs, whole.format)
        assert difference(small.image, whole.image.reduce(factor)) < 6
    assert small.image.tobytes() == whole.image.tobytes()


def test_a_picture_in_memory_is_reduced_too_and_stays_as_it_was() -> None:
    """Boxes of its pixels become their means; the caller's picture keeps its size."""
    image = scene(64, 48)
    small = upright_rgb(image, 12)

    assert small.image.tobytes() == image.reduce(4).tobytes()
    assert (small.width, small.height) == image.size == (64, 48)
    opened = Image.open(io.BytesIO(encode(image, "JPEG")))
    upright_rgb(opened, 12)
    assert opened.size == (64, 48)


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (8, 8), (9, 17), (1000, 10), (3, 299)])
def test_no_side_vanishes(size: tuple[int, int]) -> None:
    """Whatever is reduced as far as possible keeps at least a pixel on each side."""
    for kind in ("JPEG", "PNG"):
        assert min(decode(encode(scene(*size), kind), 10**6, 1).image.size) >= 1


def test_a_thin_strip_is_refused_before_it_is_reduced() -> None:
    """A side of over 100 times the other is an error for the whole picture, so it is one for the reduced picture."""
    with pytest.raises(ImageError, match="5000 x 10 pixels: a side is over 100 times"):
        decode(encode(scene(5000, 10), "JPEG"), 10**6, 1)


@pytest.mark.parametrize(
    ("options", "per_pixel"),
    [({}, 0), ({"progressive": True}, 3), ({"progressive": True, "subsampling": 0}, 6)],
)
def test_the_header_tells_what_a_progressive_file_takes(options: dict[str, Any], per_pixel: int) -> None:
    """The coefficients of a progressive JPEG take two bytes each, for as many as there are after subsampling."""
    header = read_header(encode(scene(160, 96), "JPEG", **options), 10**6)

    assert (header.width, header.height, header.is_jpeg) == (160, 96, True)
    assert header.coefficient_bytes == per_pixel * 160 * 96


def mutated(files: list[bytes], draw: random.Random) -> bytes:
    """Return one of the files, cut or with bytes changed, removed or added."""
    data = bytearray(draw.choice(files))
    place, num = draw.randrange(len(data)), draw.choice((1, 2, 10, 100))
    how = draw.choice(("cut", "change", "change", "remove", "add"))
    if how == "cut":
        del data[place:]
    elif how == "remove":
        del data[place : place + num]
    elif how == "add":
        data[place:place] = draw.randbytes(num)
    else:
        for _ in range(draw.choice((1, 1, 2, 5, 20))):
            data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def outcome(data: bytes, min_side_px: int | None) -> tuple[Any, ...]:
    """Return all that the index has of a file, or the reason why it cannot be decoded."""
    try:
        picture = decode(data, 10**6, min_side_px)
    except ImageError as error:
        return ("quarantined", str(error))
    return (picture.width, picture.height, picture.format, picture.repairs)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow warns of damaged EXIF
def test_the_cheapest_decode_finds_the_same_damage() -> None:
    """A damaged JPEG has the same state and reason, however few of its pixels are made."""
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[dict[str, Any]] = [
        {},
        {"progressive": True},
        {"subsampling": 0},
        {"restart_marker_rows": 1},
        {"exif": exif, "optimize": True},
        {"progressive": True, "restart_marker_blocks": 3},
    ]
    files = [
        encode(scene(*size, seed).convert(mode), "JPEG", **options)
        for size in ((64, 48), (131, 97), (40, 200))
        for mode in ("RGB", "L", "CMYK")
        for seed, options in enumerate(kinds)
    ]
    draw = random.Random(0)
    outcomes = []
    for _ in range(1000):
        data = mutated(files, draw)
        outcomes.append(outcome(data, 1))
        assert outcomes[-1] == outcome(data, None)
    assert 300 < sum(one[0] == "quarantined" for one in outcomes) < 700


# The only photos of ants & bees that are large enough.
LARGE = {
    "Nepenthes_rafflesiana_ant.jpg",
    "ants-devouring-remains-of-large-dead-insect-on-red-tile-in-Stellenbosch-South-Africa-closeup-1-DHD.jpg",
}


@pytest.mark.slow
def test_photos_of_usual_size_keep_their_bits(ants_bees: Path) -> None:
    """At the default transform, only the two large photos of ants & bees are reduced, and they look the same."""
    reduced = {}
    for path in sorted(ants_bees.rglob("*.jpg")):
        whole, small = (decode(path.read_bytes(), 10**8, side).image for side in (None, DEFAULT.min_side_px()))
        if small.size == whole.size:
            assert small.tobytes() == whole.tobytes(), path
        else:
            seen = [Image.fromarray(DEFAULT.pixels(image)) for image in (small, whole)]
            reduced[path.name] = difference(seen[0], seen[1])
    assert set(reduced) == LARGE
    assert max(reduced.values()) < 1.5


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 95, "subsampling": 0})])
@given(width=st.integers(300, 700), height=st.integers(300, 700), orientation=st.integers(1, 8))
def test_the_crop_of_a_reduced_photo_is_that_of_the_whole(
    kind: str, options: dict[str, Any], width: int, height: int, orientation: int
) -> None:
    """No crop moves where a factor does not divide the sides, however the photo is turned: ramps have the same grays.

    A shift by half a reduced pixel would change the mean of a ramp by 1.6.
    """
    transform = Transform(40, 32, False, "bilinear", (0.5,) * 3, (0.5,) * 3)
    across, down = (np.linspace(0, 250, side).round().astype(np.uint8) for side in (width, height))
    ramps = np.stack([*np.meshgrid(across, down), np.zeros((height, width), dtype=np.uint8)], axis=2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(ramps), kind, exif=exif, **options)
    whole, small = (decode(data, 10**6, side) for side in (None, transform.min_side_px()))

    assert small.image.size != whole.image.size
    for view in make_views(3, 0):
        pixels = view.pixels(small.image, transform, small.extent).astype(int)
        differences = pixels - view.pixels(whole.image, transform)
        assert np.abs(differences.mean(axis=(0, 1))).max() < 0.9


@pytest.mark.parametrize("px", [64, 224])
def test_digits_keep_their_bits(px: int) -> None:
    """No picture of 8 x 8 pixels is reduced."""
    transform = DEFAULT.at(px)
    digit = scene(8, 8)

    assert decode(encode(digit, "PNG"), 100, transform.min_side_px()).image.tobytes() == digit.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@given(width=st.integers(1, 70), height=st.integers(1, 70), orientation=st.integers(1, 8), side=st.integers(1, 20))
def test_any_size_is_the_one_that_was_said(kind: str, width: int, height: int, orientation: int, side: int) -> None:
    """Also sides that no factor divides, however the picture is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encode(Image.new("RGB", (width, height)), kind, exif=exif), 10**6, side)

    assert (picture.width, picture.height) == ((width, height) if orientation < 5 else (height, width))
    assert picture.image.size == reduced_size(picture.width, picture.height, side)
