"""The loader: threads read and decode images ahead of the network and put them into batches of pixels."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.base.threads import in_order
from stages.finetune.augmentation import Augmentation
from stages.finetune.kept_pixels import KeptPixels
from stages.finetune.subsets import LabelledImage

Batch = NDArray[np.intp]  # (B,) positions of the images of a batch
_AHEAD = 2  # number of batches that are loaded ahead of the network


class Loader:
    """Loads images in batches.

    Args:
        pixels: Pixels of the images.
        augmentation: Augmentation of training images.
        num_threads: Number of threads that read and decode.
    """

    def __init__(self, pixels: KeptPixels, augmentation: Augmentation, num_threads: int) -> None:
        self._pixels, self._augmentation, self._num_threads = pixels, augmentation, num_threads

    def augmented(
        self, images: Sequence[LabelledImage], batches: Sequence[Batch], epoch: int
    ) -> Iterator[tuple[Batch, NDArray[np.uint8]]]:
        """Give batches of augmented images: positions (B,) in `images` and pixels, uint8 (B, px, px, 3).

        Args:
            images: All images from which the batches choose.
            batches: Positions of each batch.
            epoch: Number of the epoch, on which the augmentation depends.

        Raises:
            DataError: The content of a file differs from the index.
        """

        def load(position: int) -> NDArray[np.uint8]:
            row = images[position].row
            return self._augmentation.apply(self._pixels.source(row), self._augmentation.plan(row, epoch))

        yield from self._batches(batches, load)

    def views(
        self, images: Sequence[LabelledImage], batches: Sequence[Batch]
    ) -> Iterator[tuple[Batch, NDArray[np.uint8]]]:
        """Give batches with the pixels of all views, uint8 (B, views, px, px, 3), without augmentation.

        Args:
            images: All images from which the batches choose.
            batches: Positions of each batch.

        Raises:
            DataError: The content of a file differs from the index.
        """
        yield from self._batches(batches, lambda position: self._pixels.views(images[position].row))

    def draws(self, image: LabelledImage, epochs: Sequence[int]) -> tuple[Image.Image, list[NDArray[np.uint8]]]:
        """Return an upright image, and what `augmented` gives of it in several epochs, uint8 (px, px, 3) each.

        Raises:
            DataError: The content of the file differs from the index.
        """
        with self._pixels.picture(image.row) as picture:
            source = self._augmentation.source(picture)
            plans = [self._augmentation.plan(image.row, epoch) for epoch in epochs]
            return picture.image, [self._augmentation.apply(source, plan) for plan in plans]

    def _batches(
        self, batches: Sequence[Batch], load: Callable[[int], NDArray[np.uint8]]
    ) -> Iterator[tuple[Batch, NDArray[np.uint8]]]:
        self._pixels.refresh()
        num_ahead = _AHEAD * max((len(batch) for batch in batches), default=0)
        positions = (int(position) for batch in batches for position in batch)
        loaded = in_order(load, positions, self._num_threads, num_ahead)
        for batch in batches:
            yield batch, np.stack([next(loaded) for _ in batch])
        self._pixels.flush()


def even_batches(order: NDArray[np.intp], batch: int) -> list[Batch]:
    """Cut positions into batches of about `batch`. Their lengths differ by at most one.

    No batch has a single image, because BatchNorm cannot compute the variance of one. So a batch may have `batch` + 1
    images. Only a single position in all makes a batch of one.

    Args:
        order: (N,) positions in the order in which they are used.
        batch: Number of images in a batch, at least 2.
    """
    num = min(-(-len(order) // batch), max(1, len(order) // 2))
    return list(np.array_split(order, num)) if len(order) else []
