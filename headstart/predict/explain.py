"""Explaining: where the model looks in a picture, and which training images it is reminded of, as a page and PNGs."""

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.base.errors import DataError
from headstart.base.files import atomic_folder
from headstart.imaging.decode import ImageError, decode
from headstart.predict.heat_maps import HeatMaps, find_heat_maps, overlay
from headstart.predict.images import ImageLike
from headstart.predict.inputs import SourceError, read_file
from headstart.predict.model import MAX_PIXELS, Model
from headstart.predict.prediction import Neighbour, Prediction, as_utf8

NUM_NEAREST = 5
MOST_IMAGES = 1000
_LEAST_PX = 224  # smaller pictures are enlarged to be seen
_THUMBNAIL_PX = 96


def write_gallery(
    folder: Path,
    model: Model,
    images: Sequence[ImageLike],
    predictions: Sequence[Prediction],
    *,
    photos: Path | None,
    weights: Path | None,
    name: str,
) -> None:
    """Write a folder with `index.html` and, for each image that gives a picture, `<number>.png`.

    Args:
        folder: Not there yet.
        model: That predicted.
        images: In the order of the predictions.
        predictions: With their nearest training images.
        photos: Folder of the training images, to show them; without it they are named only.
        weights: As for `load`.
        name: Of the bundle, for the page.

    Raises:
        DataError: The folder is there already, or there are too many images for a page.
    """
    check_gallery(folder, photos, len(images))
    heat_maps = find_heat_maps(model.bundle, weights)
    page = Path(__file__).parent / "page"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(page),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    thumbnails: dict[str, str] = {}
    shown: list[dict[str, Any]] = []
    with atomic_folder(folder) as temporary:
        for number, (image, one) in enumerate(zip(images, predictions, strict=True), start=1):
            picture = shown_class = ""
            if one.logits is not None:
                picture, column = f"{number:04}.png", int(one.logits.argmax())
                shown_class = model.classes[column]
                _show(model.pixels([image])[0], heat_maps, column).save(temporary / picture)
            shown.append({
                "picture": picture,
                "name": as_utf8(one.name),
                "status": one.status,
                "reason": one.reason,
                "predicted": one.predicted,
                "shown_class": shown_class,
                "confidence": one.confidence,
                "nearest": [_near(other, photos, thumbnails) for other in one.nearest],
            })  # fmt: skip
        text = environment.get_template("gallery.html").render(
            bundle=name, track=model.bundle.track, images=shown, has_heat=heat_maps is not None
        )
        (temporary / "index.html").write_text(text, encoding="utf-8")


def check_gallery(folder: Path, photos: Path | None, num_images: int) -> None:
    """Refuse before any work what `write_gallery` would refuse.

    Raises:
        DataError: The folder is there already, that of the photos is not, or there are too many images for a page.
    """
    check_photos(photos)
    if folder.exists():
        raise DataError(f"--explain {folder}: is there already; move it away, or name another folder")
    if num_images > MOST_IMAGES:
        raise DataError(f"--explain: {num_images} images are too many for a page; expected at most {MOST_IMAGES}")


def check_photos(folder: Path | None) -> None:
    """Refuse a folder of training images that is not there.

    Raises:
        DataError: It is not.
    """
    if folder is not None and not folder.is_dir():
        raise DataError(f"--photos {folder}: there is no such folder")


def _show(pixels: NDArray[np.uint8], heat_maps: HeatMaps | None, column: int) -> Image.Image:
    panels = [Image.fromarray(pixels)]
    if heat_maps is not None:
        panels.append(overlay(pixels, heat_maps.of(pixels, column)))
    px = max(_LEAST_PX, len(pixels))
    sheet = Image.new("RGB", (px * len(panels), px))
    for number, panel in enumerate(panels):
        sheet.paste(panel.resize((px, px), Image.Resampling.BICUBIC), (number * px, 0))
    return sheet


def _near(other: Neighbour, photos: Path | None, thumbnails: dict[str, str]) -> dict[str, Any]:
    if photos is not None and other.digest not in thumbnails:
        thumbnails[other.digest] = thumbnail(photos / other.path, other.digest)
    return {
        "path": as_utf8(other.path),
        "label": other.label,
        "similarity": other.similarity,
        "thumbnail": thumbnails.get(other.digest, ""),
    }


def thumbnail(path: Path, digest: str) -> str:
    """Return a `data:` address of a training image; empty if it is not there or no longer what it was."""
    try:
        data = read_file(path)
        if hashlib.sha256(data).hexdigest() != digest:
            return ""
        image = decode(data, MAX_PIXELS).image
    except (SourceError, ImageError):
        return ""
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    return data_address(image, "webp")


def data_address(image: Image.Image, kind: str) -> str:
    """Return a picture as a `data:` address, without loss.

    Args:
        image: Of any mode that the format takes.
        kind: `png` or `webp`.
    """
    file = io.BytesIO()
    image.save(file, kind, lossless=True)  # which PNG always is
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
