"""Random augmentation of training pictures, by torchvision's transforms, drawn for each image and epoch.

A draw depends only on the seed, the epoch and the image's digest. So the number of threads and processes changes no
pixel.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from headstart.imaging.scale import reduced_size
from headstart.imaging.transform import Transform
from headstart.tables.index import IndexRow

# Settings of `mild`. `crop` uses torchvision's defaults, as the tutorials do, except for the smallest area.
_MILD = {"degrees": 10.0, "translate": (0.08, 0.08), "scale": (0.9, 1.1)}
# Before a rotation the picture is padded on all sides by a quarter of its side, with its edge repeated. So no black
# corner rotates into the picture.
_PADDING_DIVISOR = 4


@dataclass(frozen=True)
class Plan:
    """The random numbers for one image.

    Attributes:
        drawn: Parameters that torchvision's transform drew. None: the image is not augmented.
        mirror: Whether left and right are exchanged.
    """

    drawn: dict[str, Any] | None
    mirror: bool


class Augmentation:
    """Draws augmentations and applies them.

    Attributes:
        kind: Kind of augmentation.
        min_side_px: Pixels that the shorter side of a picture keeps when it is decoded; None to decode it whole.

    Args:
        kind: `none`; `mild`: a small rotation, shift and zoom; `crop`: a random crop, mirrored in half of all cases
            (RandomResizedCrop and RandomHorizontalFlip of the tutorials).
        transform: Resolved transform of an image that is not augmented.
        min_area: Smallest fraction of the picture's area that `crop` keeps.
        seed: Seed of all draws.
        is_scaled: Whether large pictures are reduced when they are decoded.
    """

    def __init__(self, kind: str, transform: Transform, min_area: float, seed: int, *, is_scaled: bool) -> None:
        self.kind = kind
        self._transform, self._seed = transform, seed
        mode = InterpolationMode(transform.interpolation)
        self._crop = v2.RandomResizedCrop(transform.crop_px, scale=(min_area, 1.0), interpolation=mode)
        # The shorter side of the smallest crop. Its area is this fraction of at least the square of the shorter side.
        smallest = math.sqrt(min_area * min(self._crop.ratio)) if kind == "crop" else 1.0
        self.min_side_px = transform.min_side_px(smallest) if is_scaled else None
        self._affine = v2.RandomAffine(**_MILD, interpolation=InterpolationMode.BILINEAR)

    def plan(self, row: IndexRow, epoch: int) -> Plan:
        """Draw the augmentation of an image.

        It leaves torch's own generator as it was. Do not call it from several threads.

        Args:
            row: Row of the image in the index.
            epoch: Number of the epoch.
        """
        if self.kind == "none":
            return Plan(None, mirror=False)
        seed = int.from_bytes(hashlib.sha256(f"{self._seed}/{epoch}/{row.digest}".encode()).digest()[:7])
        px = self._transform.crop_px
        width, height = reduced_size(row.width, row.height, self.min_side_px) if self.kind == "crop" else (px, px)
        blank = tv_tensors.Image(torch.empty(3, height, width, device="meta"))  # only its sides are read
        transform = self._crop if self.kind == "crop" else self._affine
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPU's generator
            drawn = transform.make_params([blank])
            mirror = self.kind == "crop" and bool(torch.rand(()) < 0.5)
        return Plan(drawn, mirror)

    def apply(self, image: Image.Image, plan: Plan) -> NDArray[np.uint8]:
        """Return the augmented pixels of an image, uint8 (px, px, 3). It may be called from several threads."""
        if plan.drawn is None:
            return self._transform.pixels(image)
        if self.kind == "crop":
            changed = self._crop.transform(image, plan.drawn)
            return np.asarray(functional.horizontal_flip(changed) if plan.mirror else changed)
        px = self._transform.crop_px
        square = Image.fromarray(self._transform.pixels(image))
        padded = functional.pad(square, [px // _PADDING_DIVISOR] * 4, padding_mode="edge")
        return np.asarray(functional.center_crop(self._affine.transform(padded, plan.drawn), [px, px]))


def choose_augmentation(kind: str, median_short_side_px: float, transform: Transform) -> str:
    """Return the kind of augmentation. `auto` is `mild` if images are smaller than the network's input, else `crop`.

    The subject of a small picture (a digit, a cell, a satellite chip) often fills it. A crop would cut off a part of
    the subject, and a mirror image may be of another class. In a photo, the subject usually fills only a part.

    Args:
        kind: As in `finetune.augmentation.kind`.
        median_short_side_px: Median length of the shorter side of the training images, in pixels.
        transform: Resolved transform.
    """
    if kind != "auto":
        return kind
    return "mild" if median_short_side_px < transform.crop_px else "crop"
