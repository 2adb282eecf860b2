"""The sample batch: a few training images beside their augmented draws, as pictures for people."""

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.finetune.loader import Loader
from stages.finetune.subsets import LabelledImage

NUM_IMAGES, NUM_DRAWS = 6, 6
# Side of a tile in pixels: that of the network's input within these limits, which bound the size of the report.
_LEAST_PX, _MOST_PX = 64, 128
_GAP_PX = 6
_QUALITY = 80


@dataclass(frozen=True)
class SampleImage:
    """A training image of the batch.

    Attributes:
        image: The image and its label.
        strip: A WebP file: the upright image, then its draws of the first epochs, in a row.
    """

    image: LabelledImage
    strip: bytes


def make_sample_batch(loader: Loader, images: Sequence[LabelledImage]) -> list[SampleImage]:
    """Return training images of different classes with the pixels that the first epochs see of them, before mixup.

    Args:
        loader: Loader of the training, so that the draws are the same, bit for bit, before they are made small.
        images: All training images.

    Raises:
        DataError: The content of a file differs from the index.
    """
    epochs = range(1, NUM_DRAWS + 1)
    return [SampleImage(image, _strip(*loader.draws(image, epochs))) for image in choose_images(images)]


def choose_images(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Return at most `NUM_IMAGES` images: of classes evenly spaced by name, or several of each if there are few.

    Args:
        images: Images in a fixed order. The first ones of a class are chosen.
    """
    by_label = defaultdict(list)
    for image in images:
        by_label[image.label].append(image)
    labels = sorted(by_label)
    if len(labels) > NUM_IMAGES:
        labels = [labels[place] for place in np.linspace(0, len(labels) - 1, NUM_IMAGES).round().astype(int)]
    rounds = [(turn, label) for turn in range(NUM_IMAGES) for label in labels if turn < len(by_label[label])]
    return [by_label[label][turn] for turn, label in sorted(rounds[:NUM_IMAGES], key=lambda one: (one[1], one[0]))]


def _strip(source: Image.Image, draws: Sequence[NDArray[np.uint8]]) -> bytes:
    px = min(max(draws[0].shape[0], _LEAST_PX), _MOST_PX)
    tiles = [_fit(one, px) for one in (source, *map(Image.fromarray, draws))]
    strip = Image.new("RGBA", (len(tiles) * (px + _GAP_PX) - _GAP_PX, px))
    for number, tile in enumerate(tiles):
        strip.paste(tile, (number * (px + _GAP_PX) + (px - tile.width) // 2, (px - tile.height) // 2))
    file = io.BytesIO()
    strip.save(file, "webp", quality=_QUALITY)
    return file.getvalue()


def _fit(picture: Image.Image, px: int) -> Image.Image:
    """Return a picture whose longer side is at most `px`. A small one grows by a whole factor, to stay sharp."""
    factor = px // max(picture.size)
    if factor:
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    small = picture.copy()
    small.thumbnail((px, px), Image.Resampling.LANCZOS)
    return small
