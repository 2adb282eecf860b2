"""Transform and views: from an upright RGB picture to the squares that the network sees. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.imaging.resampling import Coefficients, coefficients_of
from headstart.imaging.scale import OVERSAMPLING, Extent, extent_of

MAX_ENLARGEMENT = 8
# Networks halve the picture about five times, so a side that is not a multiple of 32 loses its border.
PX_STEP = 32
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Ranges of the area of a crop, as a fraction of the picture's area, and of its aspect ratio. They are those of
# torchvision's RandomResizedCrop, but with more than a third of the area, so that the subject is visible.
_AREA_FRACTIONS = (0.35, 1.0)
_ASPECT_RATIOS = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Transform:
    """Resize, centre crop, scale to [0, 1] and normalise: the input that the weights were trained on.

    The pixels are those of torchvision's presets, bit for bit, with one exception. Pillow 13 and later resize the rows
    of some thin or squashed pictures before the columns, because that is less work. Here the columns are always resized
    first, so that no embedding depends on Pillow's version. Scaling and normalising are part of the network
    (`backbone.layers.Normalisation`). A large picture may have been reduced before (`scale`).

    Attributes:
        resize_px: Length of the shorter side after resizing, in pixels.
        crop_px: Side of the centre square that the network gets, in pixels; at most `resize_px`.
        squash: Whether both sides are resized to `resize_px`, without keeping the aspect ratio (for some timm weights).
        interpolation: Filter of the resize, which is antialiased.
        mean: Mean of each channel in [0, 1], which is subtracted.
        std: Standard deviation of each channel, which divides the result.
    """

    resize_px: int
    crop_px: int
    squash: bool
    interpolation: Literal["bilinear", "bicubic", "lanczos"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def pixels(self, image: Image.Image, extent: Extent | None = None) -> NDArray[np.uint8]:
        """Return an RGB picture resized and centre-cropped, uint8 (crop_px, crop_px, 3).

        Args:
            image: The picture.
            extent: How it shows the whole picture, so that the crop shows the same part as that of the whole picture;
                None if it was not reduced.
        """
        extent = extent or extent_of(*image.size, 1)
        width, height, left, top = self._crop(extent)
        filter_, (start, first, stop, last) = _FILTERS[self.interpolation], extent.box
        # Columns first, then rows. Cropping in between saves a third of the second pass and changes no bit.
        columns = image.resize((width, image.height), filter_, (start, 0, stop, image.height))
        columns = columns.crop((left, 0, left + self.crop_px, image.height))
        square = columns.resize((self.crop_px, height), filter_, (0, first, self.crop_px, last))
        return np.asarray(square.crop((0, top, self.crop_px, top + self.crop_px)))

    def coefficients(self, size: tuple[int, int], extent: Extent) -> tuple[Coefficients, Coefficients]:
        """Return the coefficients of the columns and of the rows with which `pixels` resizes.

        Args:
            size: Width and height of the picture in pixels.
            extent: As for `pixels`.
        """
        width, height, left, top = self._crop(extent)
        filter_, (start, first, stop, last) = _FILTERS[self.interpolation], extent.box
        return (
            coefficients_of(size[0], (start, stop), width, (left, left + self.crop_px), filter_),
            coefficients_of(size[1], (first, last), height, (top, top + self.crop_px), filter_),
        )

    def whole_pixels(self, image: Image.Image, extent: Extent) -> NDArray[np.uint8]:
        """Return an RGB picture resized, not cropped, uint8 (height, width, 3). The arguments are as for `pixels`."""
        width, height = self.resized(extent.width, extent.height)
        filter_, (start, first, stop, last) = _FILTERS[self.interpolation], extent.box
        columns = image.resize((width, image.height), filter_, (start, 0, stop, image.height))
        return np.asarray(columns.resize((width, height), filter_, (0, first, width, last)))

    def box_pixels(
        self, image: Image.Image, box: tuple[float, float, float, float], extent: Extent | None = None
    ) -> NDArray[np.uint8]:
        """Return a part of the picture, resized to uint8 (crop_px, crop_px, 3).

        Args:
            image: Picture in mode RGB.
            box: Left, top, right and bottom as fractions of width and height.
            extent: As for `pixels`.
        """
        start, first, stop, last = (extent or extent_of(*image.size, 1)).box
        width, height = stop - start, last - first
        left, top, right, bottom = box
        part = (
            start + left * width,
            first + top * height,
            min(start + right * width, stop),
            min(first + bottom * height, last),
        )
        return np.asarray(image.resize((self.crop_px, self.crop_px), _FILTERS[self.interpolation], part))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of a picture after resizing and before the crop, in pixels."""
        if self.squash:
            return self.resize_px, self.resize_px
        short, long = sorted((width, height))
        resized_long = int(self.resize_px * long / short)
        return (self.resize_px, resized_long) if width <= height else (resized_long, self.resize_px)

    def _crop(self, extent: Extent) -> tuple[int, int, int, int]:
        """Return width and height after resizing, and the left and top edge of the centre crop, in pixels."""
        width, height = self.resized(extent.width, extent.height)
        return width, height, round((width - self.crop_px) / 2.0), round((height - self.crop_px) / 2.0)

    def min_side_px(self, smallest_part: float = 1.0) -> int:
        """Return the pixels that the shorter side of a picture must keep when it is reduced before this transform.

        Args:
            smallest_part: Shortest side of a part of the picture that is resized to the crop, as a fraction of the
                picture's shorter side; 1 for the whole picture.
        """
        return math.ceil(OVERSAMPLING * max(self.resize_px, self.crop_px / smallest_part))

    def at(self, crop_px: int) -> "Transform":
        """Return this transform with another `crop_px`, scaled so that it shows the same part of the picture."""
        return replace(self, crop_px=crop_px, resize_px=round(crop_px * self.resize_px / self.crop_px))


def choose_px(native_px: int, min_px: int, median_short_side_px: float) -> int:
    """Return the input side for `transform.px: auto`, in pixels.

    It is the native side of the weights, unless the median image would be enlarged more than `MAX_ENLARGEMENT` times.
    A larger input would only be more blurred and cost more. Measured on 8-pixel digits with the best layer: accuracy
    0.982 at 64 px and 0.971 at 128 px.

    Args:
        native_px: Side at which the weights were trained or evaluated.
        min_px: Smallest side that the network accepts.
        median_short_side_px: Median of the shorter sides of the images.
    """
    sharp = math.floor(MAX_ENLARGEMENT * median_short_side_px / PX_STEP) * PX_STEP
    return min(native_px, max(sharp, min_px, PX_STEP))


@dataclass(frozen=True)
class View:
    """A fixed way to look at a picture.

    Attributes:
        box: Left, top, right and bottom of a crop, as fractions of the picture; None for the centre crop.
        mirror: Whether the picture is mirrored left to right.
    """

    box: tuple[float, float, float, float] | None
    mirror: bool

    def pixels(self, image: Image.Image, transform: Transform, extent: Extent | None = None) -> NDArray[np.uint8]:
        """Return this view of an RGB picture, uint8 (crop_px, crop_px, 3). The arguments are as for the transform."""
        pixels = transform.pixels(image, extent) if self.box is None else transform.box_pixels(image, self.box, extent)
        return pixels[:, ::-1] if self.mirror else pixels

    def min_side_px(self, transform: Transform) -> int:
        """Return the pixels that the shorter side of a picture must keep for this view."""
        if self.box is None:
            return transform.min_side_px()
        left, top, right, bottom = self.box
        return transform.min_side_px(min(right - left, bottom - top))

    def spec(self) -> dict[str, Any]:
        """Return this view as JSON values, for the spec."""
        return {"box": None if self.box is None else list(self.box), "mirror": self.mirror}


def view_of(spec: Mapping[str, Any]) -> View:
    """Return the view that `View.spec` describes."""
    return View(None if spec["box"] is None else tuple(spec["box"]), spec["mirror"])


def make_views(num_views: int, seed: int) -> tuple[View, ...]:
    """Return the centre crop, its mirror image, then random crops, every second one mirrored.

    With equal seeds, a smaller number of views gives the first views of a larger number.

    Args:
        num_views: Number of views, at least 1.
        seed: Seed of the crops.
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
