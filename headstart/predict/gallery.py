"""The gallery of `predict --explain`: a page with each image, its heat map and its nearest training images."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.base.errors import DataError
from headstart.base.files import atomic_folder
from headstart.predict.heat_maps import HeatMaps, find_heat_maps, overlay
from headstart.predict.image_like import ImageLike
from headstart.predict.model import Model
from headstart.predict.pages import check_photos, render, training_thumbnail
from headstart.predict.prediction import Neighbour, Prediction, utf8_text

MAX_IMAGES = 1000
_MIN_PX = 224  # smaller pictures are enlarged, so that people can see them


def write_gallery(
    folder: Path,
    model: Model,
    images: Iterable[ImageLike],
    predictions: Sequence[Prediction],
    *,
    photos: Path | None,
    weights: Path | None,
    name: str,
) -> None:
    """Write a folder with `index.html` and one picture, `<number>.png`, for each image that could be decoded.

    Args:
        folder: Folder that does not exist yet.
        model: Model that made the predictions.
        images: Images in the order of the predictions; each is taken when its picture is drawn.
        predictions: Predictions with their nearest training images.
        photos: Folder of the training images; None shows their names only.
        weights: Weights file of the backbone, as for `load`.
        name: Name of the bundle, for the page.

    Raises:
        DataError: The folder exists already, or there are too many images for a page.
    """
    check_gallery(folder, photos, len(predictions))
    heat_maps = find_heat_maps(model.bundle, weights)
    thumbnails: dict[str, str] = {}
    cards: list[dict[str, Any]] = []
    with atomic_folder(folder) as temporary:
        for number, (image, prediction) in enumerate(zip(images, predictions, strict=True), start=1):
            picture = shown_class = ""
            if prediction.logits is not None:
                picture, column = f"{number:04}.png", int(prediction.logits.argmax())
                shown_class = model.classes[column]
                _draw(model.pixels([image])[0], heat_maps, column).save(temporary / picture)
            cards.append({
                "picture": picture,
                "name": utf8_text(prediction.name),
                "status": prediction.status,
                "reason": prediction.reason,
                "predicted": prediction.predicted,
                "shown_class": shown_class,
                "confidence": prediction.confidence,
                "nearest": [_nearest_card(neighbour, photos, thumbnails) for neighbour in prediction.nearest],
            })  # fmt: skip
        text = render(
            "gallery.html",
            bundle=utf8_text(name),
            track=model.bundle.track,
            images=cards,
            has_heat=heat_maps is not None,
        )
        (temporary / "index.html").write_text(text, encoding="utf-8")


def check_gallery(folder: Path, photos: Path | None, num_images: int) -> None:
    """Raise the errors of `write_gallery` before any work.

    Raises:
        DataError: The folder exists already, the folder of photos does not exist, or there are too many images.
    """
    check_photos(photos)
    if folder.exists():
        raise DataError(f"--explain {folder}: exists already; move it away, or name another folder")
    if num_images > MAX_IMAGES:
        raise DataError(f"--explain: {num_images} images are too many for a page; expected at most {MAX_IMAGES}")


def _draw(pixels: NDArray[np.uint8], heat_maps: HeatMaps | None, column: int) -> Image.Image:
    """Return the image, with the image under its heat map to the right if there is one."""
    panels = [Image.fromarray(pixels)]
    if heat_maps is not None:
        panels.append(overlay(pixels, heat_maps.of(pixels, column)))
    px = max(_MIN_PX, len(pixels))
    sheet = Image.new("RGB", (px * len(panels), px))
    for number, panel in enumerate(panels):
        sheet.paste(panel.resize((px, px), Image.Resampling.BICUBIC), (number * px, 0))
    return sheet


def _nearest_card(neighbour: Neighbour, photos: Path | None, thumbnails: dict[str, str]) -> dict[str, Any]:
    if photos is not None and neighbour.digest not in thumbnails:
        thumbnails[neighbour.digest] = training_thumbnail(photos / neighbour.path, neighbour.digest)
    return {
        "path": utf8_text(neighbour.path),
        "label": neighbour.label,
        "similarity": neighbour.similarity,
        "thumbnail": thumbnails.get(neighbour.digest, ""),
    }
