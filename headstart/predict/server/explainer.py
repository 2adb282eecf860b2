"""The explainer: heat maps and pictures of training images as `data:` URLs. For one thread only."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from headstart.pages.thumbnail import data_url
from headstart.predict.heat_maps import HeatMaps, overlay
from headstart.predict.image_like import ImageLike
from headstart.predict.model import Model
from headstart.predict.pages import training_thumbnail
from headstart.predict.prediction import Neighbour, Prediction

_MAX_THUMBNAILS = 500  # about 10 kB each


class Explainer:
    """Draws what a prediction is based on.

    Args:
        model: Model that made the predictions.
        heat_maps: Heat maps of its network; None if it has none.
        photos: Folder of the training images; None if their pictures are not shown.
    """

    def __init__(self, model: Model, heat_maps: HeatMaps | None, photos: Path | None) -> None:
        self._model, self._heat_maps, self._photos = model, heat_maps, photos
        self._thumbnails: OrderedDict[str, str] = OrderedDict()  # by digest, the last used at the end

    def heat_map(self, image: ImageLike, prediction: Prediction) -> str | None:
        """Return a PNG of the image under the heat map of its most probable class; None if there is no heat map."""
        if self._heat_maps is None or prediction.logits is None:
            return None
        pixels = self._model.pixels([image])[0]
        heat = self._heat_maps.of(pixels, int(prediction.logits.argmax()))
        return data_url(overlay(pixels, heat), "png")

    def thumbnails(self, nearest: Sequence[Neighbour]) -> list[str]:
        """Return a small picture of each training image; an empty string if the file is missing or has changed."""
        return [
            self._thumbnail(self._photos / neighbour.path, neighbour.digest) if self._photos else ""
            for neighbour in nearest
        ]

    def _thumbnail(self, path: Path, digest: str) -> str:
        cached = self._thumbnails.pop(digest, None)
        self._thumbnails[digest] = training_thumbnail(path, digest) if cached is None else cached
        if len(self._thumbnails) > _MAX_THUMBNAILS:
            self._thumbnails.popitem(last=False)
        return self._thumbnails[digest]
