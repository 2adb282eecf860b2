"""Pixels of fine-tuning: a photo is decoded once, and the cache of its pixels changes no result."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.imaging import reader as reader_module
from headstart.imaging.clock import Clock
from headstart.imaging.decode import DECODE_POLICIES, decode
from headstart.imaging.reader import MemoryBudget, Reader
from headstart.imaging.transform import Transform, View
from headstart.pixels import cache
from headstart.sources.folder import Folder
from headstart.tables.index import IndexRow
from stages.finetune import trainer
from stages.finetune.augmentation import Augmentation
from stages.finetune.kept_pixels import KeptPixels
from stages.finetune.run import FineTuned
from stages.finetune.subsets import LabelledImage, Subsets
from tests.conftest import index_of
from tests.support.finetuning import Tune, differing, tensors_of
from tests.unit.stages.test_finetune import keep_the_last

VIEW = Transform(36, 32, False, "bicubic", (0.5,) * 3, (0.5,) * 3)
VIEWS = (View(None, mirror=False), View(None, mirror=True))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Give the number of times that each file was decoded, by the hash of its bytes."""
    counts: Counter[int] = Counter()
    original = decode

    def counted(data: bytes, *args: Any) -> Any:
        counts[hash(data)] += 1
        return original(data, *args)

    monkeypatch.setattr(reader_module, "decode", counted)
    return counts


@pytest.fixture
def large(tmp_path: Path) -> list[LabelledImage]:
    """Give three large photos and a small one, in different formats and orientations."""
    random = np.random.default_rng(0)
    for name, size in {
        "a/1.jpg": (900, 700),
        "a/2.png": (500, 640),
        "b/3.jpg": (401, 300),
        "b/4.jpg": (60, 40),
    }.items():
        path = tmp_path / "large" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        exif = Image.Exif()
        if name == "a/1.jpg":
            exif[0x0112] = 6  # turned by a quarter
        small.resize(size, Image.Resampling.BICUBIC).save(path, exif=exif)
    rows = sorted(index_of(tmp_path / "large"), key=lambda row: row.digest)
    return [LabelledImage(row, row.path[0], row.digest) for row in rows]


def pixels_of(
    folder: Path, images: list[LabelledImage], budget: int, kind: str = "crop", policy: str = "scaled", px: Any = "auto"
) -> tuple[KeptPixels, Reader, Augmentation]:
    """Return the pixels of images that are all for training, their reader and their augmentation."""
    spec = {
        "decode": DECODE_POLICIES[policy],
        "views": [view.spec() for view in VIEWS],
        "transform": {"resize_px": 36, "crop_px": 32, "squash": False, "interpolation": "bicubic"}
        | {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    side = 72 if policy == "scaled" else None
    reader = Reader(Folder(folder), VIEW, VIEWS, MemoryBudget(2**30), Clock(), min_side_px=side)
    augmentation = Augmentation(kind, VIEW, 0.35, px, seed=0)
    subsets = Subsets(images, [], [])
    return (
        KeptPixels(reader, augmentation, spec, subsets, images, budget=budget, num_processes=1),
        reader,
        augmentation,
    )


@pytest.mark.parametrize(("kind", "refit"), [("crop", "none"), ("mild", "none"), ("crop", "all")])
def test_the_cache_changes_no_bit_and_later_runs_decode_nothing(
    tune: Tune, decoded: Counter[int], monkeypatch: pytest.MonkeyPatch, kind: str, refit: str
) -> None:
    """Without a cache, with too small a one, and with one that an earlier run filled, the weights are the same."""

    def run(pixels: int) -> FineTuned:
        decoded.clear()
        tuned = tune(runtime={"pixels": pixels}, augmentation__kind=kind, refit=refit)
        tuned.checkpoint.remove()
        return tuned

    monkeypatch.setattr(trainer.Trainer, "_choose", keep_the_last)  # so that a refit trains
    without = run(0)
    num_without = max(decoded.values())
    tight = run(40_000) if kind == "crop" else without
    first = run(2**30)
    num_first = max(decoded.values())
    monkeypatch.setattr(reader_module, "decode", lambda *_: pytest.fail("a photo was decoded again"))
    monkeypatch.setattr("stages.finetune.run.make_sample_batch", lambda *_: [])
    second = run(2**30)

    for tuned in (tight, first, second):
        assert differing(tensors_of(without), tensors_of(tuned)) == set()
        assert np.array_equal(tuned.predictions.logits, without.predictions.logits)
        assert tuned.history == without.history
    assert num_without >= 3  # once an epoch, and for the references
    assert num_first == 2  # for the sample batch (or the inner validation), and once for all that follows


@pytest.mark.parametrize("policy", ["scaled", "exact"])
def test_kept_views_are_those_of_the_reader(
    tmp_path: Path, large: list[LabelledImage], monkeypatch: pytest.MonkeyPatch, policy: str, decoded: Counter[int]
) -> None:
    """The views that are made on the way to a source picture are the reader's, bit for bit, and cost no decoding."""
    monkeypatch.chdir(tmp_path)
    made, reader, _ = pixels_of(tmp_path / "large", large, 2**30, policy=policy)
    expected = {image.row.path: reader.pixels(image.row) for image in large}
    for path, pixels in expected.items():  # the same as of bytes, as `predict` sees them
        assert np.array_equal(reader.views_of((tmp_path / "large" / path).read_bytes(), 10**7)[0], pixels)
    for image in large:
        made.source(image.row)
    decoded.clear()

    for image in large:
        assert np.array_equal(made.views(image.row), expected[image.row.path])
    assert not decoded


def test_views_of_another_size_are_not_taken_from_the_source_picture(
    tmp_path: Path, large: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where source pictures need more pixels than views, the photo is decoded again for the views."""
    monkeypatch.chdir(tmp_path)
    made, reader, _ = pixels_of(tmp_path / "large", large, 2**30, px=400)
    for image in large:
        made.source(image.row)
        assert np.array_equal(made.views(image.row), reader.pixels(image.row))


def test_a_source_picture_is_the_reduced_photo(
    tmp_path: Path, large: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small photo stays as it is. A large one has the short side asked for, and is what one resize makes of it."""
    monkeypatch.chdir(tmp_path)
    made, reader, augmentation = pixels_of(tmp_path / "large", large, 0, policy="exact", px=70)
    for image in large:
        source = made.source(image.row)
        with reader.picture(image.row, None) as picture:
            photo = picture.image
            assert photo.size == (image.row.width, image.row.height)
            width, height = augmentation.source_size(image.row)
            expected = np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC))
        assert source.shape == (height, width, 3)
        assert min(width, height) == min(70, *photo.size)
        assert abs(width / height - photo.width / photo.height) < 0.02
        assert np.abs(source.astype(int) - expected).max() <= 1  # the order of the passes may differ


def test_a_source_picture_of_a_reduced_photo_is_close_to_the_exact_one(
    tmp_path: Path, large: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reducing a photo while it is decoded changes the source picture by a few grays."""
    monkeypatch.chdir(tmp_path)
    scaled, exact = (pixels_of(tmp_path / "large", large, 0, policy=name)[0] for name in ("scaled", "exact"))
    for image in large:
        one, other = scaled.source(image.row).astype(int), exact.source(image.row).astype(int)
        assert one.shape == other.shape
        assert np.abs(one - other).mean() < 5  # of 85 between two of its pixels at random


def test_without_crops_the_source_picture_is_the_square(
    tmp_path: Path, large: list[LabelledImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For `none` and `mild` every draw starts from what the network sees without augmentation."""
    monkeypatch.chdir(tmp_path)
    made, reader, augmentation = pixels_of(tmp_path / "large", large, 0, kind="none")
    for image in large:
        source = made.source(image.row)
        assert np.array_equal(source, reader.pixels(image.row)[0])
        assert np.array_equal(augmentation.apply(source, augmentation.plan(image.row, 1)), source)


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (600, 590), (8000, 300), (60, 40)])
@pytest.mark.parametrize("min_area", [0.08, 0.35, 1.0])
def test_no_crop_of_a_large_photo_is_enlarged(size: tuple[int, int], min_area: float) -> None:
    """With `auto` a crop lies in the source picture and has as many pixels as the network's input."""
    augmentation = Augmentation("crop", VIEW, min_area, "auto", 0)
    row = IndexRow("a.jpg", "0" * 64, "JPEG", *size, "ok", "")
    width, height = augmentation.source_size(row)
    enough = math.ceil(32 / math.sqrt(0.75 * min_area))
    for epoch in range(50):
        drawn = augmentation.plan(row, epoch).drawn
        assert drawn is not None
        assert drawn["left"] + drawn["width"] <= width
        assert drawn["top"] + drawn["height"] <= height
        if min(size) >= enough:
            assert min(drawn["width"], drawn["height"]) >= VIEW.crop_px - 1  # sides are rounded
    assert min(width, height) == min(*size, enough)


def test_damaged_pixels_are_made_again(
    tmp_path: Path,
    large: list[LabelledImage],
    monkeypatch: pytest.MonkeyPatch,
    decoded: Counter[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A shard of kept pixels that has lost a bit is named, and its photos are decoded again."""
    monkeypatch.chdir(tmp_path)
    first = pixels_of(tmp_path / "large", large, 2**30)[0]
    expected = [first.source(image.row) for image in large]
    first.flush()
    (shard,) = (tmp_path / ".cache" / "pixels").glob("*.safetensors")
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    decoded.clear()
    second = pixels_of(tmp_path / "large", large, 2**30)[0]

    assert all(np.array_equal(second.source(image.row), one) for image, one in zip(large, expected, strict=True))
    assert len(decoded) == len(large)
    assert f"finetune: WARNING: {shard.relative_to(tmp_path)} is damaged" in capsys.readouterr().out


def test_pixels_are_kept_again_when_what_they_depend_on_changes(
    tmp_path: Path, large: list[LabelledImage], monkeypatch: pytest.MonkeyPatch, decoded: Counter[int]
) -> None:
    """Another size, decode policy or version of a decoder finds nothing of what was kept before."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "large"
    changes: list[dict[str, Any]] = [{}, {"px": 50}, {"policy": "exact"}, {"kind": "none"}]
    for change in changes:
        made = pixels_of(folder, large, 2**30, **change)[0]
        decoded.clear()
        for image in large:
            made.source(image.row)
        assert len(decoded) == len(large)
        made.flush()
    monkeypatch.setattr(cache, "decoder_versions", lambda: {"pillow": "99"})
    decoded.clear()
    made = pixels_of(folder, large, 2**30)[0]
    for image in large:
        made.source(image.row)
        made.views(image.row)

    assert len(decoded) == len(large)
