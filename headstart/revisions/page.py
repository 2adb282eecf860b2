"""The page: a comparison as one HTML file that needs no network, with the photos that only one revision gets right."""

from collections.abc import Iterable
from pathlib import Path

from headstart.base.errors import TableError
from headstart.base.files import write_bytes
from headstart.base.params import Section, read_section
from headstart.pages.template import environment
from headstart.pages.thumbnail import thumbnail
from headstart.revisions.comparison import ImageChange
from headstart.revisions.result import Result
from headstart.revisions.text import change_sentences, param_rows
from headstart.sources.folder import open_source
from headstart.sources.params import DataParams
from headstart.tables.index import IndexRow
from headstart.tables.rows import read_rows

_MOST_SHOWN = 200
_THUMBNAIL_PX = 160


class _Index(Section, extra="ignore"):
    max_pixels: int


def write_page(path: Path, result: Result, root: Path) -> None:
    """Write the page of a comparison, with thumbnails of at most 200 images of a kind.

    Args:
        path: HTML file to write.
        result: The comparison.
        root: Folder of the project. Photos that its index does not list are named and not shown.

    Raises:
        ParamsError: A setting is missing or wrong.
    """
    kinds = [kind for track in result.tracks for kind in (track.newly_wrong, track.newly_right)]
    images = [image for kind in kinds for image in kind[:_MOST_SHOWN]]
    page = environment(Path(__file__).parent / "page").get_template("compare.html")
    text = page.render(
        result=result,
        changes=list(change_sentences(result.changes, str)),
        params=param_rows(result.changes, str),
        thumbnails=_thumbnails(images, root),
        most=_MOST_SHOWN,
    )
    write_bytes(path, text.encode())


def _thumbnails(images: Iterable[ImageChange], root: Path) -> dict[str, str]:
    """Return a thumbnail of each photo that is here, by digest.

    A path of the index of this working tree is read, never one that another revision names.
    """
    params = root / "params.yaml"
    max_pixels = read_section(params, "index", _Index).max_pixels
    source = open_source(str(root / read_section(params, "data", DataParams).path))
    try:
        paths = {row.digest: row.path for row in read_rows(root / "data/index.csv", IndexRow)}
    except TableError:
        return {}
    pictures: dict[str, str] = {}
    for image in images:
        if image.digest in paths and image.digest not in pictures:
            try:
                picture = thumbnail(source.read(paths[image.digest]), image.digest, _THUMBNAIL_PX, max_pixels)
            except OSError:
                continue
            if picture:
                pictures[image.digest] = picture
    return pictures
