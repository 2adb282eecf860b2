"""The explainer: a heat map and pictures of training images, as `data:` addresses. For one thread."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from headstart.predict.explain import data_address, thumbnail
from headstart.predict.heat_maps import HeatMaps, overlay
from headstart.predict.images import ImageLike
from headstart.predict.model import Model
from headstart.predict.prediction import Neighbour, Prediction

_MOST_THUMBNAILS = 500  # about 10 kB each


class Explainer:
    """Shows what a prediction rests on.

    Args:
        model: That predicts.
        heat_maps: Of its network; None if it has none.
        photos: Folder of the training images; without it they are named only.
    """

    def __init__(self, model: Model, heat_maps: HeatMaps | None, photos: Path | None) -> None:
        self._model, self._heat_maps, self._photos = model, heat_maps, photos
        self._thumbnails: OrderedDict[str, str] = OrderedDict()  # by digest, the latest last

    def heat_map(self, image: ImageLike, one: Prediction) -> str | None:
        """Return a PNG of the picture with the heat map of its most probable class; None if there is none."""
        if self._heat_maps is None or one.logits is None:
            return None
        pixels = self._model.pixels([image])[0]
        return data_address(overlay(pixels, self._heat_maps.of(pixels, int(one.logits.argmax()))), "png")

    def thumbnails(self, nearest: Sequence[Neighbour]) -> list[str]:
        """Return a small picture of each training image; empty where it is not there or no longer what it was."""
        return [self._thumbnail(self._photos / other.path, other.digest) if self._photos else "" for other in nearest]

    def _thumbnail(self, path: Path, digest: str) -> str:
        found = self._thumbnails.pop(digest, None)
        self._thumbnails[digest] = thumbnail(path, digest) if found is None else found
        if len(self._thumbnails) > _MOST_THUMBNAILS:
            self._thumbnails.popitem(last=False)
        return self._thumbnails[digest]
