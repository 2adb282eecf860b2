"""Augmentation: what chance does to a training picture. torchvision's transforms, drawn per image and epoch.

What is drawn depends on seed, epoch and the image's digest alone, so threads and processes change no pixel.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from headstart.imaging.transform import Transform
from headstart.tables.index import IndexRow

# The tutorials' crop is torchvision's default but for the least area, which is a param.
_MILD = {"degrees": 10.0, "translate": (0.08, 0.08), "scale": (0.9, 1.1)}
_MARGIN = 4  # a quarter of the side is put around the picture, by its own edge, so that no black corner turns in


@dataclass(frozen=True)
class Plan:
    """What was drawn for one image.

    Attributes:
        drawn: As torchvision's transform drew it; None for the transform without chance.
        mirror: Whether left and right are exchanged.
    """

    drawn: dict[str, Any] | None
    mirror: bool


class Augmentation:
    """Draws and applies.

    Args:
        kind: `none`; `mild`: a small turn, shift and zoom; `crop`: a random part of the picture, in half of all cases
            mirrored (the tutorials' RandomResizedCrop and RandomHorizontalFlip).
        transform: Resolved; what an image without augmentation goes through.
        min_area: Least part of the picture that `crop` keeps.
        seed: Seed of all draws.
    """

    def __init__(self, kind: str, transform: Transform, min_area: float, seed: int) -> None:
        self.kind = kind
        self._transform, self._seed = transform, seed
        mode = InterpolationMode(transform.interpolation)
        self._crop = v2.RandomResizedCrop(transform.crop_px, scale=(min_area, 1.0), interpolation=mode)
        self._affine = v2.RandomAffine(**_MILD, interpolation=InterpolationMode.BILINEAR)

    def plan(self, row: IndexRow, epoch: int) -> Plan:
        """Draw for an image. Leaves torch's own generator as it was; not for threads."""
        if self.kind == "none":
            return Plan(None, mirror=False)
        seed = int.from_bytes(hashlib.sha256(f"{self._seed}/{epoch}/{row.digest}".encode()).digest()[:7])
        px = self._transform.crop_px
        height, width = (row.height, row.width) if self.kind == "crop" else (px, px)
        blank = tv_tensors.Image(torch.empty(3, height, width, device="meta"))  # they only ask for its sides
        chance = self._crop if self.kind == "crop" else self._affine
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach a GPU's generator too
            drawn = chance.make_params([blank])
            mirror = self.kind == "crop" and bool(torch.rand(()) < 0.5)
        return Plan(drawn, mirror)

    def apply(self, image: Image.Image, plan: Plan) -> NDArray[np.uint8]:
        """Return uint8 (px, px, 3). Safe in threads."""
        if plan.drawn is None:
            return self._transform.pixels(image)
        if self.kind == "crop":
            changed = self._crop.transform(image, plan.drawn)
            return np.asarray(functional.horizontal_flip(changed) if plan.mirror else changed)
        px = self._transform.crop_px
        square = Image.fromarray(self._transform.pixels(image))
        padded = functional.pad(square, [px // _MARGIN] * 4, padding_mode="edge")
        return np.asarray(functional.center_crop(self._affine.transform(padded, plan.drawn), [px, px]))


def choose_augmentation(kind: str, median_short_side_px: float, transform: Transform) -> str:
    """Return the kind for `auto`: `mild` where images are smaller than what the network sees, else `crop`.

    Small pictures are the subject itself (a digit, a cell, a chip), and a part or a mirror image of it is another
    subject; photos show theirs somewhere.
    """
    if kind != "auto":
        return kind
    return "mild" if median_short_side_px < transform.crop_px else "crop"
