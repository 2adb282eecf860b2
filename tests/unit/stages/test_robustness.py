"""The check on shifted pictures: what the shifts do, which images are drawn, and what is counted."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save

from headstart.artifacts.bundle import Bundle, read_config, write_bundle
from headstart.artifacts.features import Rows
from headstart.backbone.params import BackboneParams
from headstart.base.errors import DataError, TableError
from headstart.imaging.transform import Transform
from headstart.tables.index import IndexRow
from headstart.tables.intervals import wilson_interval
from headstart.tables.names import TRACKS
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
from tests.support.source import ROOT

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
    """A model whose embeddings begin with the mean of the blue, the green and the red pixels, the order of COLOURS."""

    def __init__(self, folder: Path) -> None:
        self.track, self._dim, self.num_pictures = folder.name, sum(read_config(folder)["dims"]), 0

    def embed(self, images: Iterable[Image.Image]) -> Rows:
        """Return embeddings, float32 (N, 1, dim)."""
        means = np.array([np.asarray(image).mean(axis=(0, 1))[::-1] for image in images], dtype=np.float32)
        self.num_pictures += len(means)
        return np.pad(means, [(0, 0), (0, self._dim - 3)])[:, None]


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of the kept embeddings, below the test's own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path / ".cache" / "robustness"


@pytest.fixture
def models(tmp_path: Path, tiny_backbone: BackboneParams) -> Path:
    """Bundles whose head always says `blue`, while the other track says the largest of the first three numbers."""
    folder = tmp_path / "models"
    write_head(folder, tiny_backbone, says="blue")
    write_bundle(folder / "finetune", colour_bundle(tiny_backbone, track="finetune"))
    return folder


def colour_bundle(backbone: BackboneParams, **changes: Any) -> Bundle:
    """Return a bundle of the classes COLOURS whose logits are the first three numbers of the embedding."""
    values: dict[str, Any] = {
        "weight": np.eye(3, 96, dtype=np.float32),
        "bias": np.zeros(3, dtype=np.float32),
        "views": 1,
    }
    return make_bundle(backbone, classes=sorted(COLOURS), **values | changes)


def write_head(models: Path, backbone: BackboneParams, *, says: str) -> None:
    """Write a head that says one class of every picture."""
    bias = np.array([name == says for name in sorted(COLOURS)], dtype=np.float32)
    write_bundle(models / "head", colour_bundle(backbone, weight=np.zeros((3, 96), dtype=np.float32), bias=bias))


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> list[Stub]:
    """Stubs in place of the networks; the list has those that were loaded."""
    loaded: list[Stub] = []

    def load(folder: Path, **_: object) -> Stub:
        loaded.append(Stub(folder))
        return loaded[-1]

    monkeypatch.setattr(checking, "load", load)
    return loaded


def test_the_numbers_are_those_of_a_hand_computation(
    photos: Path, tmp_path: Path, models: Path, tiny_backbone: BackboneParams, stubs: list[Stub]
) -> None:
    """A head that says `blue` is right for 4 of 12 photos under each shift; a track that sees colours, for all."""
    index = index_of(photos)
    params = robustness_params(photos, tiny_backbone)
    write_robustness(tmp_path / "robustness.json", check(index, split_of(index), models, params))
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
        def embed(self, images: Iterable[Image.Image]) -> Rows:
            pictures = list(images)
            found = super().embed(pictures)
            is_dark = np.array([np.asarray(image).max() < 140 for image in pictures])
            seen.append(int(is_dark.sum()))
            found[is_dark] = -found[is_dark]
            return found

    for track in TRACKS:
        write_bundle(tmp_path / track, colour_bundle(tiny_backbone, track=track))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "load", lambda folder, **_: Dark(folder))
        found = check(index, split_of(index), tmp_path, robustness_params(photos, tiny_backbone))

    assert seen == [12, 12]
    assert {one.name: one.head.accuracy for one in found.conditions if one.head.accuracy < 1} == {"darker": 0.0}
    assert found.mean_head == pytest.approx(0.8)
    assert all(one.difference == 0 and one.p_value == 1 for one in found.conditions)
    assert "darker 0.000 and 0.000" in describe(found)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_second_run_needs_neither_photos_nor_networks(
    photos: Path,
    tmp_path: Path,
    tiny_backbone: BackboneParams,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    """From the kept embeddings of real networks come the same bytes, also after the photos are gone."""
    index, params = index_of(photos), robustness_params(photos, tiny_backbone)
    for track in TRACKS:
        bundle = make_bundle(tiny_backbone, track=track, layers=("layer3", "last"), classes=sorted(COLOURS))
        write_bundle(tmp_path / track, replace(bundle, spec={**bundle.spec, "precision": precision}))
    write_robustness(tmp_path / "first.json", check(index, split_of(index), tmp_path, params))
    shutil.rmtree(photos)
    monkeypatch.delattr(checking, "load")
    write_robustness(tmp_path / "second.json", check(index, split_of(index), tmp_path, params))

    assert (tmp_path / "second.json").read_bytes() == (tmp_path / "first.json").read_bytes()
    assert read_robustness(tmp_path / "second.json").num_images == 12


def test_without_a_network_no_torch_is_loaded() -> None:
    """After an edit of the head the stage takes a second, so its modules do not import torch."""
    code = "import sys, stages.robustness.check; assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_another_head_takes_the_kept_embeddings(
    photos: Path, models: Path, tiny_backbone: BackboneParams, stubs: list[Stub]
) -> None:
    """New weights of the head change its accuracy, but no picture goes through a network again."""
    index, params = index_of(photos)[:-1], robustness_params(photos, tiny_backbone)  # four blue, four green, three red
    first = check(index, split_of(index), models, params)
    write_head(models, tiny_backbone, says="red")
    second = check(index, split_of(index), models, params)

    assert [stub.track for stub in stubs] == ["head", "finetune"]
    assert (first.mean_head, second.mean_head) == (4 / 11, 3 / 11)
    assert first.mean_finetune == second.mean_finetune == 1


def change_network(backbone: BackboneParams, models: Path) -> None:
    """Write a fine-tuned bundle whose network differs in one tensor."""
    bundle = colour_bundle(backbone, track="finetune")
    name, tensor = next((name, tensor) for name, tensor in bundle.backbone.items() if tensor.ndim == 4)
    write_bundle(models / "finetune", replace(bundle, backbone={**bundle.backbone, name: tensor + 1}))


def change_layers(backbone: BackboneParams, models: Path) -> None:
    """Write a head that reads another layer."""
    write_bundle(models / "head", colour_bundle(backbone, layers=("layer3",), weight=np.eye(3, 192, dtype=np.float32)))


@pytest.mark.parametrize(
    ("change", "seed", "embedded"),
    [(change_network, 0, ["finetune"]), (change_layers, 0, ["head"]), (None, 1, ["head", "finetune"])],
    ids=["network", "layers", "seed"],
)
def test_other_networks_and_pictures_are_embedded_anew(
    photos: Path,
    models: Path,
    tiny_backbone: BackboneParams,
    stubs: list[Stub],
    private_cache: Path,
    change: Callable[[BackboneParams, Path], None] | None,
    seed: int,
    embedded: list[str],
) -> None:
    """Another network, other layers or another seed: only what they change is embedded, and replaces the old file."""
    index, params = index_of(photos), robustness_params(photos, tiny_backbone)
    check(index, split_of(index), models, params)
    stubs.clear()
    if change:
        change(tiny_backbone, models)
    params = params.model_copy(update={"robustness": RobustnessParams(num_images=100, seed=seed)})
    for _ in range(2):
        check(index, split_of(index), models, params)

    assert [stub.track for stub in stubs] == embedded
    assert {path.name for path in private_cache.iterdir()} == {"finetune.safetensors", "head.safetensors"}


@pytest.mark.parametrize("damage", ["cut", "pixel", "foreign"])
def test_a_damaged_file_is_told_and_made_anew(
    photos: Path,
    models: Path,
    tiny_backbone: BackboneParams,
    stubs: list[Stub],
    private_cache: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    """A file that is cut, has another number or is somebody else's is named, and the same bytes are written again."""
    index, params = index_of(photos), robustness_params(photos, tiny_backbone)
    first = check(index, split_of(index), models, params)
    path = private_cache / "finetune.safetensors"
    whole = path.read_bytes()
    path.write_bytes({
        "cut": whole[:-1],
        "pixel": whole[:-1] + bytes([whole[-1] ^ 1]),
        "foreign": save({"embeddings": np.ones((72, 1, 96), np.float32)}),
    }[damage])  # fmt: skip
    stubs.clear()
    second = check(index, split_of(index), models, params)

    assert f"WARNING: {path} is damaged" in capsys.readouterr().out
    assert [stub.track for stub in stubs] == ["finetune"]
    assert second == first
    assert path.read_bytes() == whole


@pytest.mark.usefixtures("stubs")
def test_a_cache_that_cannot_be_written_stops_nothing(
    photos: Path,
    models: Path,
    tiny_backbone: BackboneParams,
    private_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without kept embeddings the result is the same; a line says that the next run takes longer."""
    private_cache.parent.mkdir()
    private_cache.touch()  # a file in place of the folder
    index = index_of(photos)
    found = check(index, split_of(index), models, robustness_params(photos, tiny_backbone))

    assert found.num_images == 12
    assert "cannot be written" in capsys.readouterr().out


@pytest.mark.usefixtures("stubs")
def test_without_photos_one_kept_track_is_not_enough(photos: Path, models: Path, tiny_backbone: BackboneParams) -> None:
    """If one track must be embedded and the photos are gone, nothing is checked: the tracks are compared in pairs."""
    index, params = index_of(photos), robustness_params(photos, tiny_backbone)
    check(index, split_of(index), models, params)
    change_layers(tiny_backbone, models)
    shutil.rmtree(photos)

    assert check(index, split_of(index), models, params) == Robustness(0, [], None, None)


def test_without_photos_nothing_is_checked(
    tmp_path: Path, photos: Path, models: Path, tiny_backbone: BackboneParams
) -> None:
    """A machine that has only the embeddings can still train a head: the check says what to do, and stops nothing."""
    index = index_of(photos)
    found = check(index, split_of(index), models, robustness_params(tmp_path / "gone", tiny_backbone))

    assert found == Robustness(0, [], None, None)
    assert "the photos are missing" in describe(found)


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize("damage", ["delete", "change"])
def test_photos_that_went_or_changed_stop_the_stage(
    photos: Path, models: Path, tiny_backbone: BackboneParams, damage: str
) -> None:
    """Accuracies of other photos than the indexed ones would be wrong; the message names the photo."""
    index = index_of(photos)
    path = photos / index[5].path
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes((photos / index[6].path).read_bytes())
    with pytest.raises(DataError, match=index[5].path):
        check(index, split_of(index), models, robustness_params(photos, tiny_backbone))


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
