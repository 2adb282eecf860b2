"""What the gallery and the server's page share: templates, and pictures inside the page."""

from pathlib import Path
from typing import Any

from headstart.base.errors import DataError
from headstart.pages.template import environment
from headstart.pages.thumbnail import thumbnail
from headstart.predict.image_file import ImageReadError, read_file
from headstart.predict.model import MAX_PIXELS

NUM_NEAREST = 5  # training images that a page shows for each image
_THUMBNAIL_PX = 96


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - templates take anything
    """Return the HTML of a template of `page/`. All values are escaped; a value that is missing is an error."""
    return environment(Path(__file__).parent / "page").get_template(template).render(values)


def check_photos(folder: Path | None) -> None:
    """Check that the folder of the training images exists, if one is given.

    Raises:
        DataError: It does not exist.
    """
    if folder is not None and not folder.is_dir():
        raise DataError(f"--photos {folder}: there is no such folder")


def training_thumbnail(path: Path, digest: str) -> str:
    """Return a small picture of a training image as a `data:` URL.

    Args:
        path: Path of the image.
        digest: sha256 of the file that was trained on.

    Returns:
        An empty string if the file is missing or is another one.
    """
    try:
        return thumbnail(read_file(path), digest, _THUMBNAIL_PX, MAX_PIXELS)
    except ImageReadError:
        return ""
