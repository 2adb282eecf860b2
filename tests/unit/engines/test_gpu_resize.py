"""The resize of a GPU, computed by torch on the CPU: every bit is Pillow's, and pictures keep to their space."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.engines.gpu_resize import made_up_pictures, resize_into
from headstart.imaging.decode import Picture
from headstart.imaging.scale import extent_of
from headstart.imaging.staging import StagedPictures, StagingBuffer, staging_bytes
from headstart.imaging.transform import Transform

SIDES = st.integers(1, 200)
INTERPOLATIONS = st.sampled_from(["bilinear", "bicubic", "lanczos"])


def transform_of(interpolation: str, resize_px: int, crop_px: int, *, squash: bool = False) -> Transform:
    """Return a transform."""
    return Transform(resize_px, crop_px, squash, interpolation, (0.5,) * 3, (0.5,) * 3)  # type: ignore[arg-type]


def noise(width: int, height: int, factor: int = 1, *, seed: int = 0, turned: bool = False) -> Picture:
    """Return a picture of noise, perhaps reduced from a picture of this size, with many values at the ends."""
    shape = -(-height // factor), -(-width // factor), 3
    values = np.random.default_rng(seed).integers(-128, 384, shape).clip(0, 255).astype(np.uint8)
    extent = extent_of(width, height, factor, at_right=not turned, at_bottom=not turned)
    return Picture(Image.fromarray(values), extent, "PNG", ())


def staged(pictures: Sequence[Picture], transform: Transform, num_bytes: int = 2**24) -> StagedPictures:
    """Put pictures into a buffer of so many bytes, the last one first."""
    buffer = StagingBuffer(np.full(num_bytes, 77, dtype=np.uint8), len(pictures), transform)
    for place in reversed(range(len(pictures))):
        buffer.put(place, pictures[place])
    return buffer.pictures(len(pictures))


def resized(pictures: StagedPictures) -> np.ndarray:
    """Resize what is staged."""
    squares = torch.full((len(pictures), pictures.px, pictures.px, 3), 99, dtype=torch.uint8)
    resize_into(squares, torch.from_numpy(pictures.data), pictures)
    return squares.numpy()


def by_pillow(pictures: Sequence[Picture], transform: Transform) -> np.ndarray:
    """Resize by Pillow."""
    return np.stack([transform.pixels(picture.image, picture.extent) for picture in pictures])


@given(
    st.lists(st.tuples(SIDES, SIDES, st.sampled_from([1, 2, 4]), st.booleans()), min_size=1, max_size=4),
    INTERPOLATIONS,
    st.integers(1, 96),
    st.integers(0, 40),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
@pytest.mark.slow
def test_every_bit_is_that_of_pillow(
    sizes: list[tuple[int, int, int, bool]], interpolation: str, crop_px: int, border: int, squash: bool, seed: int
) -> None:
    """Whatever the sizes, filter, crop and reduction, the pixels are those that Pillow gives on the CPU."""
    transform = transform_of(interpolation, crop_px + border, crop_px, squash=squash)
    pictures = [noise(*size, seed=seed + at, turned=turned) for at, (*size, turned) in enumerate(sizes)]
    assert np.array_equal(resized(staged(pictures, transform)), by_pillow(pictures, transform))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_pictures_of_cameras_are_resized_to_the_bit(interpolation: str) -> None:
    """Usual sizes at the usual side of networks, none of which Pillow resizes meanwhile."""
    transform = transform_of(interpolation, 256, 224)
    pictures = [noise(500, 375), noise(480, 640), noise(1025, 769, 2, turned=True), *made_up_pictures(transform)]
    found = staged(pictures, transform)
    assert all(picture.num_coefficients for picture in found.pictures)
    assert np.array_equal(resized(found), by_pillow(pictures, transform))


def test_what_finds_no_space_is_resized_by_pillow() -> None:
    """A huge picture, and those that a full buffer has no space for, take that of a square; the pixels are the same."""
    transform = transform_of("bilinear", 36, 32)
    for pictures, num in (
        ([noise(150, 140), noise(60, 40)], 1),
        ([noise(140, 130) for _ in range(6)], 1),
        ([noise(60, 60) for _ in range(6)], 6),
    ):
        found = staged(pictures, transform, len(pictures) * staging_bytes(32))
        assert sum(bool(picture.num_coefficients) for picture in found.pictures) == num
        assert found.num_bytes <= len(found.data)
        assert np.array_equal(resized(found), by_pillow(pictures, transform))


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=12), st.integers(1, 40))
@settings(deadline=None)
def test_a_buffer_never_overflows(sizes: list[tuple[int, int]], crop_px: int) -> None:
    """For any pictures, the space of squares suffices, and a cleared buffer takes as many again."""
    transform = transform_of("bilinear", crop_px, crop_px)
    pictures = [noise(*size) for size in sizes]
    buffer = StagingBuffer(np.empty(len(sizes) * (3 * crop_px**2 + 15), dtype=np.uint8), len(sizes), transform)
    for _ in range(2):
        for place, picture in enumerate(pictures):
            buffer.put(place, picture)
        found = buffer.pictures(len(pictures))
        assert np.array_equal(resized(found), by_pillow(pictures, transform))
        assert np.array_equal(resized(found[1:3]), by_pillow(pictures, transform)[1:3])
        buffer.clear()
