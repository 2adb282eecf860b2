"""Extraction: one embedding per image, pure, frozen, independent of how the work is cut up."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.core.backbones import build_backbone
from stages.core.errors import DataError
from stages.core.features import open_features
from stages.core.images import decode
from stages.core.sections import BackboneParams, DataParams, RuntimeParams, TransformParams
from stages.core.tables import IndexRow
from stages.core.transforms import Transform
from stages.extract import extraction
from stages.extract.extraction import extract
from stages.extract.params import Params
from stages.extract.reader import read_batches
from stages.index.ledger import build_ledger
from stages.index.params import IndexParams

INDEX = IndexParams(extensions=["jpg", "png"], max_pixels=10**7)
SMALL = Transform(32, 32, squash=False, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


def params(photos: Path, backbone: BackboneParams, **runtime: Any) -> Params:
    """Return the room's params for a folder and a backbone."""
    settings: dict[str, Any] = {"device": "cpu", "workers": 2, "batch": 4, "memory": 2**30, "store": "auto"} | runtime
    return Params(
        data=DataParams(path=str(photos)),
        backbone=backbone,
        transform=TransformParams(px=64),
        runtime=RuntimeParams.model_validate(settings),
    )


def test_embeddings_are_the_backbones_own(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """Each row is what the frozen network gives for that image alone, by the image's own digest."""
    rows = build_ledger(photos, INDEX, 2)
    done = extract(rows, params(photos, tiny_backbone), tmp_path / "f.h5", tmp_path / "f")
    backbone = build_backbone(tiny_backbone)
    transform = backbone.transform_for(64, 30)

    assert (done.num_images, done.dim, done.px) == (12, 96, 64)
    with open_features(tmp_path / "f.h5", backbone.spec(transform)) as features, torch.inference_mode():
        for row in rows:
            picture = decode((photos / row.path).read_bytes(), 10**7).image
            alone = backbone.network(transform.normalize(transform.pixels(picture)[None])).numpy()

            assert np.abs(features.read("last", [row.digest])[:, 0] - alone).max() < 1e-4
        assert features.read("last", [row.digest for row in rows]).std(axis=0).max() > 0.01  # they do differ


@pytest.mark.parametrize("runtime", [{"workers": 1}, {"workers": 5}, {"memory": 64 * 2**20}])
def test_bytes_do_not_depend_on_the_machine(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, runtime: dict[str, int]
) -> None:
    """Other threads, another memory budget and another order of the index give the same bytes."""
    rows = build_ledger(photos, INDEX, 2)
    extract(rows, params(photos, tiny_backbone), tmp_path / "a.h5", tmp_path / "a")
    extract(rows[::-1], params(photos, tiny_backbone, **runtime), tmp_path / "b.h5", tmp_path / "b")

    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_an_embedding_does_not_depend_on_the_other_images(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path
) -> None:
    """The row of an image has the same bits in a set of 12 and in a set of 1: the last batch is filled up."""
    rows = build_ledger(photos, INDEX, 2)
    extract(rows, params(photos, tiny_backbone), tmp_path / "all.h5", tmp_path / "all")
    extract(rows[3:4], params(photos, tiny_backbone), tmp_path / "one.h5", tmp_path / "one")

    with open_features(tmp_path / "all.h5") as features, open_features(tmp_path / "one.h5") as one:
        digests = [rows[3].digest]
        assert np.array_equal(features.read("last", digests), one.read("last", digests))


def test_the_network_always_sees_full_batches(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every forward pass has the same shape, also the last: other shapes may take other kernels and give other bits."""
    backbone = build_backbone(tiny_backbone)
    seen = []
    backbone.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr(extraction, "build_backbone", lambda _: backbone)
    extract(build_ledger(photos, INDEX, 2), params(photos, tiny_backbone, batch=5), tmp_path / "f.h5", tmp_path / "f")

    assert seen[0] == 1  # a blank picture, to learn the width
    assert set(seen[1:]) == {5}
    assert len(seen) > 3


@pytest.mark.parametrize("batch", [2, 3, 5, 32])
def test_the_batch_changes_rounding_only(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, batch: int
) -> None:
    """Another batch gives the same embeddings within float32's rounding."""
    rows = build_ledger(photos, INDEX, 2)
    digests = [row.digest for row in rows]
    extract(rows, params(photos, tiny_backbone), tmp_path / "a.h5", tmp_path / "a")
    extract(rows, params(photos, tiny_backbone, batch=batch), tmp_path / "b.h5", tmp_path / "b")

    with open_features(tmp_path / "a.h5") as a, open_features(tmp_path / "b.h5") as b:
        assert np.allclose(a.read("last", digests), b.read("last", digests), rtol=1e-4, atol=1e-4)


def test_extraction_leaves_the_network_as_it_was(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every parameter and every buffer, BatchNorm statistics included, has the same bits after as before."""
    backbone = build_backbone(tiny_backbone)
    before = {name: tensor.clone() for name, tensor in backbone.network.state_dict().items()}
    monkeypatch.setattr(extraction, "build_backbone", lambda _: backbone)
    extract(build_ledger(photos, INDEX, 2), params(photos, tiny_backbone), tmp_path / "f.h5", tmp_path / "f")

    assert any("running_mean" in name for name in before)
    for name, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_labels_and_unused_files_play_no_part(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """Moving every photo to another class and adding a quarantined file changes no byte."""
    extract(build_ledger(photos, INDEX, 2), params(photos, tiny_backbone), tmp_path / "a.h5", tmp_path / "a")
    (photos / "red").rename(photos / "crimson")
    (photos / "crimson" / "bad.png").write_bytes(b"bad")
    extract(build_ledger(photos, INDEX, 2), params(photos, tiny_backbone), tmp_path / "b.h5", tmp_path / "b")

    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("kind", ["changed", "gone"])
def test_a_file_that_is_not_as_indexed_stops_the_run(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, kind: str
) -> None:
    """A photo edited or removed after the index was made is named, and no features file is left."""
    rows = build_ledger(photos, INDEX, 2)
    if kind == "gone":
        (photos / "red" / "1.png").unlink()
    else:
        Image.new("RGB", (40, 40)).save(photos / "red" / "1.png")

    with pytest.raises(DataError, match=r"red/1\.png: .*Run: dvc repro"):
        extract(rows, params(photos, tiny_backbone), tmp_path / "f.h5", tmp_path / "f")
    assert not (tmp_path / "f.h5").exists()
    assert not list(tmp_path.glob(".f.h5*"))


def test_an_index_without_usable_images_is_refused(tmp_path: Path, tiny_backbone: BackboneParams) -> None:
    """Nothing to embed is an error, not an empty file."""
    with pytest.raises(DataError, match="no usable image"):
        extract([], params(tmp_path, tiny_backbone), tmp_path / "f.h5", tmp_path / "f")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 10**6))
def test_the_reader_keeps_order_and_loses_nothing(photos: Path, batch: int, num_workers: int, memory: int) -> None:
    """Whatever the batch, threads and memory, the pictures come in order, each once, in full batches but the last."""
    rows = build_ledger(photos, INDEX, 2)
    batches = list(read_batches(rows, photos, SMALL, batch=batch, num_workers=num_workers, memory_bytes=memory))
    expected = [SMALL.pixels(decode((photos / row.path).read_bytes(), 10**7).image) for row in rows]

    assert all(len(pixels) == batch for pixels in batches[:-1])
    assert torch.equal(torch.cat(batches), torch.stack(expected))


def test_the_reader_holds_no_more_than_its_budget(photos: Path) -> None:
    """With a small budget pictures are decoded one at a time, however many threads there are."""
    rows: list[IndexRow] = [replace(row, width=4000, height=4000) for row in build_ledger(photos, INDEX, 2)]
    active = peak = 0

    class Counting(Transform):
        def pixels(self, image: Image.Image) -> torch.Tensor:
            nonlocal active, peak
            active += 1
            peak = max(peak, active)
            time.sleep(0.01)  # long enough for another thread to come in
            pixels = super().pixels(image)
            active -= 1
            return pixels

    transform = Counting(32, 32, squash=False, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    list(read_batches(rows, photos, transform, batch=2, num_workers=8, memory_bytes=300 * 2**20))

    assert peak == 1
