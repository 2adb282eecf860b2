"""What the gallery and the server's page share: templates, and pictures inside the page."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from headstart.base.errors import DataError
from headstart.imaging.decode import ImageError, decode
from headstart.predict.image_file import ImageReadError, read_file
from headstart.predict.model import MAX_PIXELS

NUM_NEAREST = 5  # training images that a page shows for each image
_THUMBNAIL_PX = 96


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - templates take anything
    """Return the HTML of a template of `page/`. All values are escaped; a value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def check_photos(folder: Path | None) -> None:
    """Check that the folder of the training images exists, if one is given.

    Raises:
        DataError: It does not exist.
    """
    if folder is not None and not folder.is_dir():
        raise DataError(f"--photos {folder}: there is no such folder")


def thumbnail(path: Path, digest: str) -> str:
    """Return a small picture of a training image as a `data:` URL.

    Args:
        path: Path of the image.
        digest: sha256 of the file that was trained on.

    Returns:
        An empty string if the file is missing or is another one.
    """
    try:
        data = read_file(path)
        if hashlib.sha256(data).hexdigest() != digest:
            return ""
        image = decode(data, MAX_PIXELS).image
    except (ImageReadError, ImageError):
        return ""
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    return data_url(image, "webp")


def data_url(image: Image.Image, file_format: str) -> str:
    """Return an image as a `data:` URL, without loss.

    Args:
        image: An image in a mode that the format supports.
        file_format: `png` or `webp`.
    """
    file = io.BytesIO()
    image.save(file, file_format, lossless=True)  # PNG is always lossless and ignores this
    return f"data:image/{file_format};base64,{base64.b64encode(file.getvalue()).decode()}"
