"""Views: the fixed ways to look at one image, the same for every image, written out in the spec."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.core.transforms import Transform

# Share of the picture's area and aspect ratio of a crop: torchvision's RandomResizedCrop, but never less than a third,
# so that the subject stays in sight.
_AREA_FRACTIONS = (0.35, 1.0)
_ASPECT_RATIOS = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class View:
    """One way to look at a picture.

    Attributes:
        box: Left, top, right and bottom of a crop, as fractions of the picture; None for the transform's own centre.
        mirror: Whether left and right are exchanged.
    """

    box: tuple[float, float, float, float] | None
    mirror: bool

    def pixels(self, image: Image.Image, transform: Transform) -> NDArray[np.uint8]:
        """Return uint8 (crop_px, crop_px, 3)."""
        pixels = transform.pixels(image) if self.box is None else transform.box_pixels(image, self.box)
        return pixels[:, ::-1] if self.mirror else pixels

    def spec(self) -> dict[str, Any]:
        """Return this view for the spec, ready for JSON."""
        return {"box": None if self.box is None else list(self.box), "mirror": self.mirror}


def view_of(spec: Mapping[str, Any]) -> View:
    """Return the view that `View.spec` wrote down."""
    return View(None if spec["box"] is None else tuple(spec["box"]), spec["mirror"])


def make_views(num_views: int, seed: int) -> tuple[View, ...]:
    """Return the centre, its mirror image, then crops drawn once by the seed, every second one mirrored.

    More views begin with the same ones: the first two of 5 are those of 2.

    Args:
        num_views: At least 1.
        seed: Of the crops.
    """
    random = np.random.default_rng(seed)
    views = [View(None, mirror=False), View(None, mirror=True)][:num_views]
    while len(views) < num_views:
        area, ratio = random.uniform(*_AREA_FRACTIONS), np.exp(random.uniform(*np.log(_ASPECT_RATIOS)))
        width, height = min(1.0, float(np.sqrt(area * ratio))), min(1.0, float(np.sqrt(area / ratio)))
        left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        left, top, right, bottom = (round(float(edge), 4) for edge in (left, top, left + width, top + height))
        views.append(View((left, top, right, bottom), mirror=len(views) % 2 == 1))
    return tuple(views)
