"""Scale: the factor by which a large picture is reduced when it is decoded, so that its reader still has enough pixels.

A reader says how many pixels the shorter side must keep. None means that it needs the whole picture.
"""

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
