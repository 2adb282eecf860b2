"""Explanations: heat maps, thumbnails and the gallery page."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from headstart.backbone.params import BackboneParams
from headstart.base.errors import DataError
from headstart.base.files import sha256_file
from headstart.predict.gallery import write_gallery
from headstart.predict.heat_maps import HeatMaps, find_heat_maps
from headstart.predict.image_like import ImageLike
from headstart.predict.model import Model, load
from headstart.predict.pages import training_thumbnail
from tests.support.bundles import make_bundle, written


@pytest.mark.parametrize("layers", [("last",), ("layer3",), ("layer3", "last")])
def test_a_heat_map_is_the_contribution_of_each_place_to_the_logit(
    tiny_backbone: BackboneParams, tmp_path: Path, photos: Path, layers: tuple[str, ...]
) -> None:
    """The mean of the map is the embedding, so the head's weights give each place's contribution, scaled to 1."""
    bundle = make_bundle(tiny_backbone, track="finetune", views=1, layers=layers)
    ready = load(written(tmp_path / "b", bundle))
    maps = find_heat_maps(bundle, None)
    assert maps is not None
    pixels = ready.pixels([photos / "red" / "1.png"])[0]
    activations = maps.activations(pixels)

    means = np.concatenate([activation.mean((1, 2)) for activation in activations])
    assert np.allclose(means, ready.embed([photos / "red" / "1.png"])[0, 0], atol=1e-4)
    for column in range(3):
        weight = np.split(bundle.weight[column] - bundle.weight.mean(axis=0), np.cumsum(bundle.dims)[:-1])
        total = torch.zeros(64, 64)
        for of_layer, activation in zip(weight, activations, strict=True):
            part = torch.from_numpy(np.tensordot(of_layer, activation, 1))[None, None]
            total += functional.interpolate(part, size=(64, 64), mode="bilinear")[0, 0]
        expected = total.clip(min=0) / max(float(total.max()), 1e-9)

        assert np.allclose(maps.of(pixels, column), expected.numpy(), atol=2e-3)


def test_the_gallery_shows_the_heat_map_of_the_most_probable_class(
    model: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image has its own heat map. If the answer is `unknown`, the page names the class of the heat map."""
    columns: list[int] = []

    def recorded(_: HeatMaps, pixels: NDArray[np.uint8], column: int) -> NDArray[np.float32]:
        columns.append(column)
        return np.zeros(pixels.shape[:2], dtype=np.float32)

    monkeypatch.setattr(HeatMaps, "of", recorded)
    paths = sorted(photos.rglob("*.*"))
    predictions = model.predict(paths, num_nearest=1, coverage=0.01)
    write_gallery(tmp_path / "a", model, paths, predictions, photos=None, weights=None, name="models/x")
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")

    assert columns == [int(one.logits.argmax()) for one in predictions if one.logits is not None]
    assert page.count("Heat map of the class: ") == len(paths)


def test_a_training_image_that_has_changed_is_not_shown(photos: Path) -> None:
    """A thumbnail shows the bytes that were trained on, or it is empty."""
    path = photos / "red" / "1.png"

    assert training_thumbnail(path, sha256_file(path)).startswith("data:image/webp;base64,")
    assert training_thumbnail(path, "0" * 64) == training_thumbnail(photos / "gone.png", "0" * 64) == ""


def test_a_network_without_mean_pooling_has_no_heat_map(tiny_backbone: BackboneParams) -> None:
    """If the embedding is not the mean of a map, there is no heat map rather than a wrong one."""
    bundle = make_bundle(tiny_backbone, track="finetune", views=1)

    assert find_heat_maps(replace(bundle, spec=dict(bundle.spec) | {"pooling": "token"}), None) is None


def test_the_gallery_shows_text_as_text(model: Model, photos: Path, tmp_path: Path) -> None:
    """Names and labels are escaped, and the same predictions give the same bytes. An existing folder is an error."""
    hostile = photos / "<img src=x onerror=alert(1)>.png"
    shutil.copy(photos / "red" / "1.png", hostile)
    given: list[ImageLike] = [hostile, b"", photos / "red" / "1.png"]
    predictions = model.predict(given, num_nearest=2)
    for name in ("a", "b"):
        write_gallery(tmp_path / name, model, given, predictions, photos=photos, weights=None, name="models/x")
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")

    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page
    assert "&lt;b&gt;so&lt;/b&gt;" in page
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["0001.png", "0003.png", "index.html"]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    with pytest.raises(DataError, match="exists already"):
        write_gallery(tmp_path / "a", model, given, predictions, photos=None, weights=None, name="models/x")
