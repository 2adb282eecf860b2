"""Pillow's resize on a GPU, in whole numbers, so that every bit is Pillow's (`imaging.resampling` says how)."""

import numpy as np
import torch
from PIL import Image

from headstart.imaging.decode import Picture
from headstart.imaging.resampling import BITS
from headstart.imaging.scale import extent_of
from headstart.imaging.staging import StagedPictures
from headstart.imaging.transform import Transform

_HALF = 1 << (BITS - 1)


def resize_into(squares: torch.Tensor, data: torch.Tensor, staged: StagedPictures) -> None:
    """Resize pictures on the device.

    Args:
        squares: uint8 (B, px, px, 3), at least as many as pictures. The first ones get the resized pictures.
        data: uint8 (num_bytes,), the bytes of the buffer on the device.
        staged: Where the pictures lie there.
    """
    for square, picture in zip(squares.unbind(), staged.pictures, strict=False):
        start, axes = picture.start, []
        for num in picture.num_coefficients:
            end = start + 2 * staged.px * num * torch.int32.itemsize
            axes.append(data[start:end].view(torch.int32).view(2, staged.px, num))
            start = end
        shape = picture.height, picture.width, 3
        pixels = data[start : start + picture.height * picture.width * 3].view(shape)
        for dim, (places, weights) in zip((1, 0), axes, strict=False):  # columns first
            pixels = _resampled(pixels, dim, places, weights)
        square.copy_(pixels)


def _resampled(pixels: torch.Tensor, dim: int, places: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return uint8 pixels (height, width, 3) with one axis resized, for places and weights, int32 (n, k)."""
    shape = *pixels.shape[:dim], *places.shape, *pixels.shape[dim + 1 :]
    taken = pixels.index_select(dim, places.reshape(-1)).reshape(shape)
    weights = weights.reshape(*weights.shape, *[1] * (2 - dim))
    total = (taken * weights).sum(dim + 1, dtype=torch.int32)
    return total.add_(_HALF).bitwise_right_shift_(BITS).clamp_(0, 255).to(torch.uint8)


def made_up_pictures(transform: Transform) -> list[Picture]:
    """Return pictures of noise that are smaller and larger than what a transform makes of them.

    One is reduced, so that a row and a column are shown in part.
    """
    random, side = np.random.default_rng(0), transform.resize_px
    pictures = []
    for width, height, factor in ((side // 3 + 1, side // 2, 1), (side, side + 3, 1), (2 * side + 3, side, 1)):
        pictures.append(_noise(random, width, height, factor))
    return [*pictures, _noise(random, 3 * side + 1, 4 * side + 1, 2)]


def _noise(random: np.random.Generator, width: int, height: int, factor: int) -> Picture:
    extent = extent_of(width, height, factor)
    shape = -(-height // factor), -(-width // factor), 3
    values = random.integers(-128, 384, shape).clip(0, 255).astype(np.uint8)  # many at both ends of the range
    return Picture(Image.fromarray(values), extent, "PNG", ())
