"""The check on shifted pictures: what the shifts do, which images are drawn, and what is counted."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headstart.backbone.params import BackboneParams
from headstart.base.errors import DataError, TableError
from headstart.imaging.transform import Transform
from headstart.tables.index import IndexRow
from headstart.tables.intervals import wilson_interval
from headstart.tables.robustness import Robustness, read_robustness, write_robustness
from headstart.tables.split import SplitRow
from stages.robustness import check as checking
from stages.robustness.check import check
from stages.robustness.params import Params, RobustnessParams
from stages.robustness.results import describe
from stages.robustness.sample import draw_images
from stages.robustness.shifts import SHIFTS, Function, Shift, add_noise, blur, expose, random_of, reduce_to
from tests.conftest import COLOURS, extract_params, index_of
from tests.support.bundles import make_bundle

DIGEST, OTHER = "1" * 64, "2" * 64


def picture(width: int, height: int) -> Image.Image:
    """Return a picture of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def transform(px: int, *, squash: bool = False) -> Transform:
    """Return a transform that resizes to 8/7 of the crop."""
    return Transform(px * 8 // 7, px, squash, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def split_of(index: list[IndexRow]) -> list[SplitRow]:
    """Return a split of photos in class folders that is all test set."""
    return [SplitRow(row.digest, row.path, row.path.split("/")[0], "test", row.digest) for row in index]


def robustness_params(photos: Path, backbone: BackboneParams, num_images: int = 100) -> Params:
    """Return params of the stage for a folder of photos."""
    shared = extract_params(photos, backbone)
    return Params(
        backbone=backbone,
        data=shared.data,
        robustness=RobustnessParams(num_images=num_images, seed=0),
        runtime=shared.runtime,
    )


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.name)
@pytest.mark.parametrize("size", [(8, 8), (40, 300)])
def test_a_shift_changes_pixels_and_nothing_else(shift: Shift, size: tuple[int, int]) -> None:
    """The picture keeps size and mode, its pixels change, and the same picture and seed give the same pixels."""
    image = picture(*size)
    first, second = (shift(image, random_of(DIGEST, 0)) for _ in range(2))

    assert (first.size, first.mode) == (image.size, "RGB")
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert not np.array_equal(np.asarray(first), np.asarray(image))


@pytest.mark.parametrize("function", [blur, add_noise, expose])
def test_a_strength_of_zero_is_the_picture_itself(function: Function) -> None:
    """Without strength no pixel changes (a JPEG has a quality instead)."""
    image = picture(20, 30)

    assert np.array_equal(np.asarray(function(image, 0.0, random_of(DIGEST, 0))), np.asarray(image))


def test_noise_is_an_images_own() -> None:
    """Two images or two seeds have different noise of the wanted strength."""
    gray = Image.new("RGB", (50, 50), (128, 128, 128))
    first, other, reseeded = (
        np.asarray(add_noise(gray, 0.1, random_of(*key))).astype(float)
        for key in ((DIGEST, 0), (OTHER, 0), (DIGEST, 1))
    )

    assert first.std() == pytest.approx(25.5, rel=0.05)
    assert first.mean() == pytest.approx(128, abs=2)
    for one in (other, reseeded):
        assert abs(np.corrcoef(first.ravel(), one.ravel())[0, 1]) < 0.05


def test_blur_grows_with_the_picture() -> None:
    """An edge is blurred over twice the pixels in a picture of twice the size, and in a tiny one it is visible."""

    def blurred_edge(px: int) -> NDArray[np.float64]:
        pixels = np.zeros((px, px, 3), np.uint8)
        pixels[:, px // 2 :] = 255
        return np.asarray(blur(Image.fromarray(pixels), 3 / 224, random_of(DIGEST, 0)))[px // 2, :, 0].astype(float)

    def width(row: NDArray[np.float64]) -> float:
        return float((row * (255 - row)).sum())

    assert width(blurred_edge(800)) == pytest.approx(2 * width(blurred_edge(400)), rel=0.05)
    assert blurred_edge(8)[3] > 10


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("size", [(500, 400), (300, 900), (128, 128)])
def test_a_large_photo_is_reduced_to_what_the_network_sees(size: tuple[int, int], *, squash: bool) -> None:
    """Reducing a photo by the network's own filter changes no pixel of what the network gets from it."""
    seen, image = transform(112, squash=squash), picture(*size)
    reduced = reduce_to(image, seen)

    assert reduced.size == seen.resized(*size)
    assert np.array_equal(seen.pixels(reduced), seen.pixels(image))


def test_a_small_picture_keeps_its_pixels() -> None:
    """A digit of 8 pixels is shifted at its own resolution: noise between its pixels would be none of a camera's."""
    image = picture(8, 9)

    assert np.array_equal(np.asarray(reduce_to(image, transform(56))), np.asarray(image))


def test_of_many_test_images_some_are_drawn(photos: Path) -> None:
    """The sample has the requested number of test images, each once, by digest; the seed decides which."""
    index = index_of(photos)
    split = split_of(index)
    split[0] = SplitRow(split[0].digest, split[0].path, "red", "train", "")
    draws = [draw_images(index, split, RobustnessParams(num_images=10, seed=seed)) for seed in (0, 0, 1, 2, 3)]
    digests = [[image.row.digest for image in drawn] for drawn in draws]
    everything = draw_images(index, split, RobustnessParams(num_images=100, seed=0))

    assert draws[0] == draws[1]
    assert any(other != digests[0] for other in digests[2:])
    assert all(drawn == sorted(set(drawn)) and len(drawn) == 10 for drawn in digests)
    assert [image.row.digest for image in everything] == sorted(row.digest for row in split[1:])
    assert all(image.label == image.row.path.split("/")[0] for image in everything)


@pytest.mark.parametrize("part", ["index", "split"])
def test_tables_that_do_not_fit_are_refused(photos: Path, part: str) -> None:
    """Without test images, or with one that the index lacks, the message names the table."""
    index = index_of(photos)
    split = split_of(index)
    with pytest.raises(DataError, match="data/split.csv"):
        draw_images(index[1:] if part == "index" else index, split if part == "index" else [], RobustnessParams(
            num_images=10, seed=0
        ))  # fmt: skip


class Stub:
    """A model that needs no network. The head always says the first class, the other track the photo's colour."""

    classes = sorted(COLOURS)

    def __init__(self, track: str, spec: dict[str, Any]) -> None:
        self._track, self.bundle = track, SimpleNamespace(spec=spec)
        self.num_pictures = 0

    def logits(self, images: Iterable[Image.Image]) -> NDArray[np.float64]:
        """Return logits (N, C)."""
        means = np.array([np.asarray(image).mean(axis=(0, 1))[::-1] for image in images])  # blue, green, red
        self.num_pictures += len(means)
        return means if self._track == "finetune" else np.tile([1.0, 0.0, 0.0], (len(means), 1))


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch, tiny_backbone: BackboneParams) -> list[Stub]:
    """Stubs in place of the bundles; the list has those that were loaded."""
    spec, loaded = dict(make_bundle(tiny_backbone).spec), []

    def load(folder: Path, **_: object) -> Stub:
        loaded.append(Stub(folder.name, spec))
        return loaded[-1]

    monkeypatch.setattr(checking, "load", load)
    return loaded


def test_the_numbers_are_those_of_a_hand_computation(
    photos: Path, tmp_path: Path, tiny_backbone: BackboneParams, stubs: list[Stub]
) -> None:
    """A head that says `blue` is right for 4 of 12 photos under each shift; a track that sees colours, for all."""
    index = index_of(photos)
    params = robustness_params(photos, tiny_backbone)
    write_robustness(tmp_path / "robustness.json", check(index, split_of(index), tmp_path, params))
    content = json.loads((tmp_path / "robustness.json").read_text())
    low, high = wilson_interval(4 / 12, 12)

    assert [one.num_pictures for one in stubs] == [12 * 6, 12 * 6]
    assert content["num_images"] == 12
    assert (content["mean_head"], content["mean_finetune"]) == (0.333333, 1.0)
    names = ["unshifted", "blur", "noise", "jpeg", "darker", "brighter"]
    assert [one["name"] for one in content["conditions"]] == names
    for one in content["conditions"]:
        assert one["head"] == {"accuracy": 0.333333, "low": round(low, 6), "high": round(high, 6)}
        assert (one["finetune"]["accuracy"], one["finetune"]["high"]) == (1.0, 1.0)
        assert one["difference"] == 0.666667
        assert one["difference_low"] < 0.666667 < one["difference_high"]
        assert one["p_value"] == round(2 * 0.5**8, 6)


def test_a_shift_that_hurts_is_seen(photos: Path, tmp_path: Path, tiny_backbone: BackboneParams) -> None:
    """Each column of the answers is its own condition: pictures are not mixed up between images and shifts."""
    index = index_of(photos)
    seen: list[int] = []

    class Dark(Stub):
        def logits(self, images: Iterable[Image.Image]) -> NDArray[np.float64]:
            pictures = list(images)
            found = super().logits(pictures)
            is_dark = np.array([np.asarray(image).max() < 140 for image in pictures])
            seen.append(int(is_dark.sum()))
            found[is_dark] = -found[is_dark]
            return found

    spec = dict(make_bundle(tiny_backbone).spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "load", lambda *_, **__: Dark("finetune", spec))
        found = check(index, split_of(index), tmp_path, robustness_params(photos, tiny_backbone))

    assert seen == [12, 12]
    assert {one.name: one.head.accuracy for one in found.conditions if one.head.accuracy < 1} == {"darker": 0.0}
    assert found.mean_head == pytest.approx(0.8)
    assert all(one.difference == 0 and one.p_value == 1 for one in found.conditions)
    assert "darker 0.000 and 0.000" in describe(found)


def test_without_photos_nothing_is_checked(tmp_path: Path, photos: Path, tiny_backbone: BackboneParams) -> None:
    """A machine that has only the embeddings can still train a head: the check says what to do, and stops nothing."""
    index = index_of(photos)
    found = check(index, split_of(index), tmp_path, robustness_params(tmp_path / "gone", tiny_backbone))

    assert found == Robustness(0, [], None, None)
    assert "the photos are missing" in describe(found)


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize("damage", ["delete", "change"])
def test_photos_that_went_or_changed_stop_the_stage(
    tmp_path: Path, photos: Path, tiny_backbone: BackboneParams, damage: str
) -> None:
    """Accuracies of other photos than the indexed ones would be wrong; the message names the photo."""
    index = index_of(photos)
    path = photos / index[5].path
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes((photos / index[6].path).read_bytes())
    with pytest.raises(DataError, match=index[5].path):
        check(index, split_of(index), tmp_path, robustness_params(photos, tiny_backbone))


def test_the_file_can_be_read_again_and_damage_is_told(tmp_path: Path) -> None:
    """Reading gives what was written; a missing or damaged file is named."""
    path, nothing = tmp_path / "robustness.json", Robustness(0, [], None, None)
    write_robustness(path, nothing)

    assert read_robustness(path) == nothing
    path.write_text(path.read_text().replace("num_images", "num"))
    with pytest.raises(TableError, match=r"robustness\.json: num"):
        read_robustness(path)
    path.unlink()
    with pytest.raises(TableError, match="is missing"):
        read_robustness(path)
