"""Kept pixels: what the loader's threads load. Each photo is decoded once; later its pixels come from the cache."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.references import MOST_REFERENCES
from headstart.backbone.spec import min_side_px_of
from headstart.base.files import code_digests
from headstart.imaging.decode import Picture
from headstart.imaging.reader import Reader
from headstart.imaging.scale import reduction
from headstart.pixels.cache import PixelCache, recipe
from headstart.tables.index import IndexRow
from stages.finetune.augmentation import Augmentation
from stages.finetune.subsets import LabelledImage, Subsets


class KeptPixels:
    """Source pictures and views of the images. Thread-safe.

    Args:
        reader: Reader of the data set, with the views over which predictions are averaged.
        augmentation: Augmentation, which makes the source pictures.
        spec: Spec of the cached embeddings, which has the views.
        subsets: Images of this run.
        all_training: Images that train at any time, those of `finetune.refit` among them.
        budget: `runtime.pixels`, in bytes.
        num_processes: Number of processes of this run on this machine.
    """

    def __init__(
        self,
        reader: Reader,
        augmentation: Augmentation,
        spec: Mapping[str, Any],
        subsets: Subsets,
        all_training: Sequence[LabelledImage],
        *,
        budget: int,
        num_processes: int,
    ) -> None:
        self._reader, self._augmentation = reader, augmentation
        self._views_side_px, reduced = min_side_px_of(spec), augmentation.reduction
        # Enough for the views too, so that one decoding usually serves both.
        least_px = reduced.resize_px if reduced else 0
        self._side_px = None if self._views_side_px is None else max(self._views_side_px, least_px)
        seen = {name: spec[name] for name in ("decode", "transform", "views")}
        own_code = code_digests("stages/finetune/augmentation.py", "stages/finetune/kept_pixels.py")
        self._views_recipe = recipe(**seen, views_side_px=self._views_side_px, own_code=own_code)
        self._source_recipe = recipe(
            decode=spec["decode"],
            side_px=self._side_px,
            reduction=asdict(reduced) if reduced else spec["transform"],
            own_code=own_code,
        )
        px = spec["transform"]["crop_px"]
        wanted = {}
        for image in [*subsets.validation, *all_training[:MOST_REFERENCES], *subsets.test]:
            wanted[self._views_name(image.row)] = len(spec["views"]) * px * px * 3
        for image in all_training:
            width, height = augmentation.source_size(image.row)
            wanted[self._source_name(image.row)] = width * height * 3
        self._cache = PixelCache(wanted, budget, "finetune", num_processes=num_processes)

    def source(self, row: IndexRow) -> NDArray[np.uint8]:
        """Return the source picture of an image, uint8 (height, width, 3).

        Raises:
            DataError: The file cannot be read or decoded, or has changed since it was indexed.
        """
        name, views_name = self._source_name(row), self._views_name(row)
        source = self._cache.find(name)
        if source is not None:
            return source
        with self.picture(row) as picture:
            source = self._augmentation.source(picture)
            if self._serves_views(row) and self._cache.may_keep(views_name):
                self._cache.add(views_name, self._reader.views_of_picture(picture))
        self._cache.add(name, source)
        return source

    def views(self, row: IndexRow) -> NDArray[np.uint8]:
        """Return the views of an image, uint8 (views, px, px, 3).

        Raises:
            DataError: As for `source`.
        """
        name = self._views_name(row)
        views = self._cache.find(name)
        if views is None:
            views = self._reader.pixels(row)
            self._cache.add(name, views)
        return views

    def picture(self, row: IndexRow) -> AbstractContextManager[Picture]:
        """Give an image from its file, upright and large enough for its source picture, in a `with` block.

        Raises:
            DataError: As for `source`.
        """
        return self._reader.picture(row, self._side_px)

    def refresh(self) -> None:
        """Look for pixels that other processes have kept."""
        self._cache.refresh()

    def flush(self) -> None:
        """Write the pixels that are kept in memory, for later runs and for other processes."""
        self._cache.flush()

    def _serves_views(self, row: IndexRow) -> bool:
        """Return whether the views are made from a picture of the same size as the source picture."""
        sizes = row.width, row.height
        return reduction(*sizes, self._side_px) == reduction(*sizes, self._views_side_px)

    def _source_name(self, row: IndexRow) -> str:
        return f"{self._source_recipe}/{row.digest}"

    def _views_name(self, row: IndexRow) -> str:
        return f"{self._views_recipe}/{row.digest}"
