"""The sample batch: what people see of it is what training sees, small enough for a page."""

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from headstart.imaging.clock import Clock
from headstart.imaging.decode import DECODE_POLICIES
from headstart.imaging.reader import MemoryBudget, Reader
from headstart.imaging.transform import Transform, View
from headstart.sources.folder import Folder
from headstart.tables.finetune import SampleRow
from headstart.tables.index import IndexRow
from headstart.tables.rows import read_rows
from stages.finetune import results
from stages.finetune.augmentation import Augmentation
from stages.finetune.kept_pixels import KeptPixels
from stages.finetune.loader import Loader
from stages.finetune.sample_batch import NUM_DRAWS, NUM_IMAGES, choose_images, make_sample_batch
from stages.finetune.subsets import LabelledImage, Subsets
from tests.conftest import index_of

VIEW = View(None, mirror=False)
Load = Callable[..., tuple[Loader, list[LabelledImage]]]


def named(labels: list[str]) -> list[LabelledImage]:
    """Return images with these labels."""
    rows = [IndexRow(f"{place}.png", f"{place:064x}", "PNG", 8, 8, "ok", "") for place in range(len(labels))]
    return [LabelledImage(row, label, row.digest) for row, label in zip(rows, labels, strict=True)]


@pytest.fixture
def load(photos: Path) -> Load:
    """Give a function that returns a loader and the images of the photos, by digest."""

    def made(kind: str = "crop", px: int = 32) -> tuple[Loader, list[LabelledImage]]:
        transform = Transform(px, px, False, "bilinear", (0.5,) * 3, (0.5,) * 3)
        reader = Reader(Folder(photos), transform, [VIEW], MemoryBudget(2**30), Clock(), min_side_px=None)
        rows = sorted(index_of(photos), key=lambda row: row.digest)
        images = [LabelledImage(row, row.path.split("/")[0], row.digest) for row in rows]
        augmentation = Augmentation(kind, transform, 0.3, "auto", seed=7)
        spec = {"transform": asdict(transform), "views": [VIEW.spec()], "decode": DECODE_POLICIES["exact"]}
        subsets = Subsets(images, [], [])
        pixels = KeptPixels(reader, augmentation, spec, subsets, images, budget=0, num_processes=1)
        return Loader(pixels, augmentation, num_threads=2), images

    return made


def tiles(strip: bytes, px: int) -> list[NDArray[np.uint8]]:
    """Return the tiles of a strip, uint8 (px, px, 4)."""
    pixels = np.asarray(Image.open(io.BytesIO(strip)).convert("RGBA"))
    assert pixels.shape[:2] == (px, (NUM_DRAWS + 1) * (px + 6) - 6)
    return [pixels[:, start : start + px] for start in range(0, pixels.shape[1], px + 6)]


@pytest.mark.parametrize("kind", ["crop", "mild", "none"])
def test_the_draws_are_those_of_the_training(load: Load, kind: str) -> None:
    """A strip shows the upright photo, then, bit for bit before they are made small, the pixels of the first epochs."""
    loader, images = load(kind)
    image = images[3]
    source, draws = loader.draws(image, range(1, NUM_DRAWS + 1))
    trained = [
        pixels[0] for epoch in range(1, NUM_DRAWS + 1) for _, pixels in loader.augmented(images, [np.array([3])], epoch)
    ]

    assert source.size == (image.row.width, image.row.height)
    assert len(draws) == NUM_DRAWS
    for one, other in zip(draws, trained, strict=True):
        assert np.array_equal(one, other)
    assert (len({one.tobytes() for one in draws}) == 1) == (kind == "none")


def test_a_strip_shows_source_and_draws_in_their_order(load: Load) -> None:
    """Tiles have the colours of what they show, 32-pixel draws doubled, and nothing around a narrow photo."""
    loader, images = load()
    (sample,) = make_sample_batch(loader, images[:1])
    source, draws = loader.draws(images[0], range(1, NUM_DRAWS + 1))
    shown = tiles(sample.strip, 64)

    for tile, picture in zip(shown, [np.asarray(source), *draws], strict=True):
        inside = tile[tile[..., 3] == 255][:, :3].mean(axis=0)
        assert np.abs(inside - picture.mean(axis=(0, 1))).max() < 6
    for tile, draw in zip(shown[1:], draws, strict=True):
        large = np.repeat(np.repeat(draw, 2, axis=0), 2, axis=1).astype(float)
        errors = [np.abs(tile[..., :3] - other).mean() for other in (large, large[:, ::-1], large[::-1])]
        assert errors[0] < 0.8 * min(errors[1:])  # WebP loses a little of the noise
    assert (shown[0][..., 3] == 0).any() == (source.width != source.height)


def test_the_sample_has_the_same_bytes_and_is_small(tmp_path: Path, load: Load) -> None:
    """A second run gives the same bytes; even strips of noise at a large input take less than 100 kB each."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 600, 3), dtype=np.uint8)
    for label in ("blue", "red"):
        Image.fromarray(noise).save(tmp_path / "photos" / label / "noise.png")
    loader, images = load(px=224)
    loud = [image for image in images if image.row.path.endswith("noise.png")]
    once, again = (make_sample_batch(loader, loud) for _ in range(2))

    assert once == again
    assert max(len(sample.strip) for sample in once) < 100_000
    assert len(tiles(once[0].strip, 128)) == NUM_DRAWS + 1


@given(st.lists(st.integers(0, 15).map(lambda number: f"c{number:02}"), min_size=1, max_size=60))
def test_images_of_different_classes_are_chosen(labels: list[str]) -> None:
    """There are as many images as possible, none twice, by class, and no class has two more than another could have."""
    images = named(labels)
    chosen = choose_images(images)
    found, there = Counter(image.label for image in chosen), Counter(labels)

    assert len({image.row.digest for image in chosen}) == len(chosen)
    assert len(chosen) == min(NUM_IMAGES, len(images)) or len(there) > NUM_IMAGES
    assert len(found) == min(NUM_IMAGES, len(there))
    assert [image.label for image in chosen] == sorted(image.label for image in chosen)
    for label, count in found.items():
        assert all(other >= min(count - 1, there[name]) for name, other in found.items()), label


def test_the_stage_writes_what_the_report_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table names every picture and its photo, pictures of an earlier run are gone, and the stage says where."""
    monkeypatch.chdir(tmp_path)
    loader, images = load()
    results.show_sample(make_sample_batch(loader, images))
    results.show_sample(make_sample_batch(loader, images[:2]))
    rows = read_rows(results.SAMPLE_FOLDER / "images.csv", SampleRow)

    assert [row.path for row in rows] == [image.row.path for image in choose_images(images[:2])]
    assert sorted(path.name for path in results.SAMPLE_FOLDER.iterdir()) == ["1.webp", "2.webp", "images.csv"]
    for row in rows:
        with Image.open(results.SAMPLE_FOLDER / row.file) as strip:
            assert strip.format == "WEBP"
    assert "diagnostics/finetune_batch shows 2 training images as the network will see them" in capsys.readouterr().out
