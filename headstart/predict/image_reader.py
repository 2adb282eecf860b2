"""The reader of images of every kind: from what a caller of the model has to the pixels of the views."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.backbone.spec import min_side_px_of, transform_of
from headstart.base.errors import DataError
from headstart.base.helpers import Helpers
from headstart.imaging.clock import Clock
from headstart.imaging.decode import ImageError
from headstart.imaging.effort import Limits
from headstart.imaging.reader import MemoryBudget, Reader
from headstart.imaging.transform import view_of
from headstart.predict.image_file import ImageReadError, read_file
from headstart.predict.image_like import DecodedImage, ImageLike, ImageStatus, ReadImages
from headstart.predict.inputs import LoadedImage
from headstart.sources.folder import Folder

_MEMORY_BYTES = 2**30


class ImageReader:
    """Reads and decodes images. Thread-safe.

    Attributes:
        num_views: Number of views of each image.

    Args:
        spec: Spec of the bundle, with its transform and views.
        limits: Limits on each file. Pillow images and arrays are in memory already and have none.
        helpers: Helpers that decode files that may take long.
        clock: Clock that counts the seconds of the work.
    """

    def __init__(self, spec: Mapping[str, Any], limits: Limits, helpers: Helpers, clock: Clock) -> None:
        self._limits, self._helpers = limits, helpers
        self.num_views = len(spec["views"])
        self._reader = Reader(
            Folder(Path()),
            transform_of(spec),
            [view_of(view) for view in spec["views"]],
            MemoryBudget(_MEMORY_BYTES),
            clock,
            min_side_px=min_side_px_of(spec),
        )

    def read(self, images: Sequence[tuple[ImageLike, str]]) -> ReadImages:
        """Return the pixels of the images that can be decoded, and the status of every image.

        Args:
            images: Images with their names.

        Returns:
            The views, uint8 (views, px, px, 3), of each image that is not quarantined, and one status for each image.

        Raises:
            DataError: An object is not an image of an accepted kind.
        """
        pixels, statuses = [], []
        for image, name in images:
            decoded = self.decode(image, name)
            if decoded.views is not None:
                pixels.append(decoded.views)
            statuses.append(decoded.status)
        return pixels, statuses

    def decode(
        self, image: ImageLike, name: str, limits: Limits | None = None, helpers: Helpers | None = None
    ) -> DecodedImage:
        """Return one image with its views. Limits and helpers are those of the reader, unless others are given.

        Raises:
            DataError: The object is not an image of an accepted kind.
        """
        if isinstance(image, DecodedImage):
            return image
        try:
            views, repairs = self._views(image, name, limits or self._limits, helpers or self._helpers)
        except (ImageError, ImageReadError) as error:
            return DecodedImage(ImageStatus(name, "quarantined", str(error)), None)
        return DecodedImage(ImageStatus(name, "repaired" if repairs else "ok", ", ".join(repairs)), views)

    def _views(
        self, image: ImageLike, name: str, limits: Limits, helpers: Helpers
    ) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        if isinstance(image, Image.Image):
            return self._reader.views_of_image(image)
        if isinstance(image, np.ndarray):
            is_picture = image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
            if not is_picture or not image.size:
                raise DataError(
                    f"{name}: found an array of {image.dtype} {image.shape}; expected uint8, (H, W, 3) RGB or (H, W) "
                    "gray"
                )
            return self._reader.views_of_image(Image.fromarray(image))
        if isinstance(image, LoadedImage):
            with image.used() as data:
                return self._reader.views_within(data, limits, helpers)
        if isinstance(image, bytes):
            data = image
        elif isinstance(image, str | os.PathLike):
            data = read_file(Path(image))
        else:
            raise DataError(
                f"{name}: found an object of type {type(image).__name__}; expected a path, bytes, a Pillow image or an "
                "array"
            )
        return self._reader.views_within(data, limits, helpers)
