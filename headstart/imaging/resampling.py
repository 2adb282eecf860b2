"""Resampling: the whole numbers that Pillow computes with when it resizes, so that a GPU can resize to the same bits.

Pillow resizes one axis after the other. A new pixel is the sum of some old ones times whole weights, of which 2^22
stands for 1. Half of that is added, 22 bits are dropped, and what lies outside 0 to 255 is cut off.

Pillow itself tells the weights: if a row of 32-bit integers is 2^22 at every n-th place and 0 elsewhere, the resized
row has the weights of these places. So they are Pillow's whatever its version and the machine's arithmetic.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS = 22
Coefficients = NDArray[np.int32]  # (2, n, k): places of the k old pixels that make each of n new ones; weights
_KEPT = 512  # axes whose coefficients are kept, 5 to 50 KB each
# Old pixels from the centre of a new one to the last that has a weight, where the picture is not made smaller.
_SUPPORT = {Image.Resampling.BILINEAR: 1.0, Image.Resampling.BICUBIC: 2.0, Image.Resampling.LANCZOS: 3.0}


@lru_cache(_KEPT)
def coefficients_of(
    size: int, part: tuple[float, float], resized: int, crop: tuple[int, int], filter_: Image.Resampling
) -> Coefficients:
    """Return the coefficients of one axis. The array is kept and must not be changed.

    Args:
        size: Pixels of the axis.
        part: First and last edge of what is resized, in pixels.
        resized: Pixels of that part after resizing.
        crop: First of the new pixels that are wanted, and the one after the last.
        filter_: Filter, one that Pillow calls bilinear, bicubic or Lanczos.
    """
    scale = (part[1] - part[0]) / resized
    num = 2 * math.ceil(_SUPPORT[filter_] * max(scale, 1.0)) + 4  # one more on each side than may have a weight
    lowest = np.floor(part[0] + (np.arange(*crop) + 0.5) * scale - num / 2).astype(np.int64)
    combs = np.zeros((num, size), dtype=np.int32)
    combs[np.arange(size) % num, np.arange(size)] = 1 << BITS
    found = np.asarray(Image.fromarray(combs).resize((resized, num), filter_, (part[0], 0, part[1], num)))
    places = lowest[:, None] + np.arange(num)
    weights = np.take_along_axis(found[:, slice(*crop)].T, places % num, axis=1)
    # As few as the new pixel with the most of them has.
    is_needed = weights != 0
    first = is_needed.argmax(axis=1)[:, None]
    most = int((is_needed * np.arange(1, num + 1) - first).max())
    order = np.minimum(first + np.arange(most), num - 1)
    places = np.take_along_axis(places, order, axis=1).clip(0, size - 1)  # those outside have no weight
    coefficients = np.stack([places, np.take_along_axis(weights, order, axis=1)]).astype(np.int32)
    coefficients.setflags(write=False)
    return coefficients
