"""Random augmentation of training pictures, by torchvision's transforms, drawn for each image and epoch.

A draw depends only on the seed, the epoch and the image's digest. So the number of threads and processes changes no
pixel.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from headstart.imaging.decode import Picture
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


class _Draws:
    """Random numbers from a generator of its own, drawn as torchvision's transforms draw them.

    torchvision draws from torch's own generator, which the training uses at the same time, for dropout. So threads
    cannot use it, and drawing in the thread that trains would keep a GPU waiting.

    Args:
        seed: Seed of the generator.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def crop(self, transform: v2.RandomResizedCrop, width: int, height: int) -> dict[str, Any]:
        """Return what `transform.make_params` returns for a picture of this size."""
        low, high = (math.log(ratio) for ratio in transform.ratio)
        for _ in range(10):
            area = width * height * self._uniform(*transform.scale).item()
            ratio = self._uniform(low, high).exp().item()
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top, left = self._below(height - h + 1), self._below(width - w + 1)
                return {"top": top, "left": left, "height": h, "width": w}
        w = min(width, round(height * max(transform.ratio)))
        h = min(height, round(width / min(transform.ratio)))
        return {"top": (height - h) // 2, "left": (width - w) // 2, "height": h, "width": w}

    def affine(self, transform: v2.RandomAffine, width: int, height: int) -> dict[str, Any]:
        """Return what `transform.make_params` returns for a picture of this size, without shear."""
        angle = self._uniform(*transform.degrees).item()
        most = (fraction * side for fraction, side in zip(transform.translate, (width, height), strict=True))
        translate = tuple(round(self._uniform(-pixels, pixels).item()) for pixels in most)
        scale = self._uniform(*transform.scale).item()
        return {"angle": angle, "translate": translate, "scale": scale, "shear": (0.0, 0.0)}

    def coin(self) -> bool:
        """Return True in half of all cases."""
        return bool(torch.rand((), generator=self._generator) < 0.5)

    def _uniform(self, low: float, high: float) -> torch.Tensor:
        return torch.empty(1).uniform_(low, high, generator=self._generator)

    def _below(self, end: int) -> int:
        return int(torch.randint(0, end, (1,), generator=self._generator).item())


class Augmentation:
    """Makes source pictures, draws augmentations and applies them.

    A source picture is what every draw of an image starts from. For `crop` it is the whole image, reduced if it is
    large. Otherwise it is the square that the network sees without augmentation.

    Attributes:
        kind: Kind of augmentation.
        reduction: Transform whose resize makes the source picture of a larger image; None where it is the square.

    Args:
        kind: `none`; `mild`: a small rotation, shift and zoom; `crop`: a random crop, mirrored in half of all cases
            (RandomResizedCrop and RandomHorizontalFlip of the tutorials).
        transform: Resolved transform of an image that is not augmented.
        min_area: Smallest fraction of the picture's area that `crop` keeps.
        source_px: `finetune.source_px`. `auto` loses no detail that the network would see: the shorter side of the
            smallest crop of a square source picture is `crop_px`, so that no crop is enlarged.
        seed: Seed of all draws.
    """

    def __init__(
        self, kind: str, transform: Transform, min_area: float, source_px: int | Literal["auto"], seed: int
    ) -> None:
        self.kind = kind
        self._transform, self._seed = transform, seed
        mode = InterpolationMode(transform.interpolation)
        self._crop = v2.RandomResizedCrop(transform.crop_px, scale=(min_area, 1.0), interpolation=mode)
        self._affine = v2.RandomAffine(**_MILD, interpolation=InterpolationMode.BILINEAR)
        smallest_fraction = math.sqrt(min_area * min(self._crop.ratio))  # of the shorter side of a square picture
        short_px = math.ceil(transform.crop_px / smallest_fraction) if source_px == "auto" else source_px
        self.reduction = replace(transform, resize_px=short_px, squash=False) if kind == "crop" else None

    def source_size(self, row: IndexRow) -> tuple[int, int]:
        """Return width and height of the source picture of an image, in pixels."""
        if self.reduction is None:
            return self._transform.crop_px, self._transform.crop_px
        if min(row.width, row.height) <= self.reduction.resize_px:
            return row.width, row.height
        return self.reduction.resized(row.width, row.height)

    def source(self, picture: Picture) -> NDArray[np.uint8]:
        """Return the source picture of an image, uint8 (height, width, 3). It may be called from several threads.

        Args:
            picture: The image, perhaps reduced when it was decoded, but not below the source picture.
        """
        if self.reduction is None:
            return self._transform.pixels(picture.image, picture.extent)
        if min(picture.width, picture.height) <= self.reduction.resize_px:
            return np.asarray(picture.image)
        return self.reduction.whole_pixels(picture.image, picture.extent)

    def plan(self, row: IndexRow, epoch: int) -> Plan:
        """Draw the augmentation of an image. It may be called from several threads.

        Args:
            row: Row of the image in the index.
            epoch: Number of the epoch.
        """
        if self.kind == "none":
            return Plan(None, mirror=False)
        seed = int.from_bytes(hashlib.sha256(f"{self._seed}/{epoch}/{row.digest}".encode()).digest()[:7])
        size, draws = self.source_size(row), _Draws(seed)
        if self.kind == "crop":
            return Plan(draws.crop(self._crop, *size), draws.coin())
        return Plan(draws.affine(self._affine, *size), mirror=False)

    def apply(self, source: NDArray[np.uint8], plan: Plan) -> NDArray[np.uint8]:
        """Return the augmented pixels of a source picture, uint8 (px, px, 3). It may be called from several threads."""
        if plan.drawn is None:
            return source
        image = Image.fromarray(source)
        if self.kind == "crop":
            changed = self._crop.transform(image, plan.drawn)
            return np.asarray(functional.horizontal_flip(changed) if plan.mirror else changed)
        px = self._transform.crop_px
        padded = functional.pad(image, [px // _PADDING_DIVISOR] * 4, padding_mode="edge")
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
