"""Scale: the factor by which a large picture is reduced when it is decoded, so that its reader still has enough pixels.

A reader says how many pixels the shorter side must keep. None means that it needs the whole picture.
"""

from dataclasses import dataclass

# A reduced picture has at least this many pixels, on each side, for one pixel of what is made of it
# (docs/explanation/decisions.md has the measurement).
OVERSAMPLING = 2
# Those of the decoder of JPEG, the largest first. Other formats are reduced by the same factors after decoding.
_FACTORS = (8, 4, 2)


def reduction(width: int, height: int, min_side_px: int | None) -> int:
    """Return the factor by which a picture is reduced: 8, 4, 2, or 1 if it is not.

    Args:
        width: Width of the whole picture in pixels.
        height: Height of the whole picture in pixels.
        min_side_px: Pixels that the shorter side must keep, at least 1; None to keep the whole picture. A picture that
            is smaller from the start is not reduced.
    """
    if min_side_px is None:
        return 1
    return next((factor for factor in _FACTORS if min(width, height) >= factor * min_side_px), 1)


def reduced_size(width: int, height: int, min_side_px: int | None) -> tuple[int, int]:
    """Return width and height of a picture after its reduction, in pixels. The arguments are those of `reduction`."""
    factor = reduction(width, height, min_side_px)
    return -(-width // factor), -(-height // factor)


@dataclass(frozen=True)
class Extent:
    """How a reduced picture shows the whole one.

    Where the factor does not divide a side, a reduced picture has a row or column at one edge that is shown in part.

    Attributes:
        width: Width of the whole picture in pixels.
        height: Height of the whole picture in pixels.
        box: Left, top, right and bottom of what shows the whole picture, in pixels of the reduced one.
    """

    width: int
    height: int
    box: tuple[float, float, float, float]


def extent_of(width: int, height: int, factor: int, *, at_right: bool = True, at_bottom: bool = True) -> Extent:
    """Return the extent of a picture that was reduced by a factor.

    Args:
        width: Width of the whole picture in pixels.
        height: Height of the whole picture in pixels.
        factor: The factor, 1 for a picture that was not reduced.
        at_right: Whether a column that is shown in part is at the right edge, else at the left one.
        at_bottom: Whether a row that is shown in part is at the bottom edge, else at the top one.
    """
    left = 0.0 if at_right else -(-width // factor) - width / factor
    top = 0.0 if at_bottom else -(-height // factor) - height / factor
    return Extent(width, height, (left, top, left + width / factor, top + height / factor))
