"""Thumbnails of the report: made once, kept, and never of another photo."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.sources.folder import Folder
from headstart.tables.index import IndexRow
from stages.report.thumbnails import Thumbnails
from tests.conftest import index_of


@pytest.fixture
def rows(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[IndexRow]:
    """Give the index of the photos and of a large one. The pixel cache goes below the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(photos / "large.jpg")
    return index_of(photos)


def thumbnails(
    photos: Path, rows: list[IndexRow], budget: int = 2**20, px: int = 32
) -> tuple[dict[str, str], set[str]]:
    """Return the thumbnails of all rows, and the paths that are missing."""
    made = Thumbnails(Folder(photos), rows, num_threads=2, budget=budget)
    return dict(made.of([row.digest for row in rows], px)), made.missing


def image_of(address: str) -> Image.Image:
    """Return the picture of a `data:` URL."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def test_a_second_report_reads_no_photo(photos: Path, rows: list[IndexRow]) -> None:
    """Kept thumbnails are the same, byte for byte, also when the photos are gone."""
    first, missing = thumbnails(photos, rows)
    for row in rows:
        (photos / row.path).unlink()

    assert thumbnails(photos, rows) == (first, missing) == (first, set())
    assert len(first) == len(rows)


def test_without_a_budget_a_missing_photo_is_missing(photos: Path, rows: list[IndexRow]) -> None:
    """With nothing kept, a photo that is gone has no thumbnail and is named."""
    first, _ = thumbnails(photos, rows, budget=0)
    (photos / rows[0].path).unlink()
    second, missing = thumbnails(photos, rows, budget=0)

    assert missing == {rows[0].path}
    assert second == {digest: address for digest, address in first.items() if digest != rows[0].digest}


def test_a_changed_photo_has_no_thumbnail(photos: Path, rows: list[IndexRow]) -> None:
    """A photo whose bytes are not the indexed ones is named; nothing of it is kept."""
    data = (photos / rows[0].path).read_bytes()
    (photos / rows[0].path).write_bytes((photos / rows[1].path).read_bytes())
    assert thumbnails(photos, rows)[1] == {rows[0].path}
    (photos / rows[0].path).write_bytes(data)

    assert thumbnails(photos, rows)[1] == set()


def test_another_size_is_made_anew(photos: Path, rows: list[IndexRow]) -> None:
    """Thumbnails of one size are not used for another. A large photo has the size asked for and the right pixels."""
    (large,) = [row for row in rows if row.path == "large.jpg"]
    for px in (32, 64):
        image = image_of(thumbnails(photos, rows, px=px)[0][large.digest])
        expected = np.linspace(0, 255, image.height)

        assert image.size == (px, px * 3 // 4)
        assert np.abs(np.asarray(image.convert("L")).mean(axis=1) - expected).max() < 12
