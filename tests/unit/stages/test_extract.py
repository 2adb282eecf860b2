"""Extraction gives the embeddings of the frozen backbone, however the work is divided."""

import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from headstart.artifacts.features import open_features
from headstart.backbone import build as backbones
from headstart.backbone.build import build_backbone
from headstart.backbone.params import BackboneParams
from headstart.backbone.spec import transform_of
from headstart.base.errors import BackboneError, DataError, FeatureFileError, ParamsError, StoreError
from headstart.base.files import code_digests
from headstart.base.machine import Rank, RuntimeParams
from headstart.engines import cache, export_process
from headstart.engines import export as graphs
from headstart.engines.engine import AUTO_ENGINES, Engine, ExportError, engines_to_try
from headstart.engines.export_process import backbone_key, export_backbone
from headstart.engines.onnx_engine import OnnxEngine
from headstart.engines.torch_engine import TorchEngine
from headstart.imaging.clock import Clock
from headstart.imaging.decode import decode
from headstart.imaging.reader import MemoryBudget, Reader, memory_for_decoding
from headstart.imaging.scale import Extent
from headstart.imaging.transform import Transform, View
from headstart.sources.folder import Folder
from headstart.store.shards import SHARD_PATTERN
from headstart.tables.index import IndexRow
from stages.extract import embedder, extraction, extractor
from stages.extract.extraction import extract, fill_store
from stages.extract.extractor import Extractor
from stages.extract.pipeline import embed_rows
from tests.conftest import extract_params, index_of
from tests.support.source import ROOT

SMALL = Transform(32, 32, squash=False, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
CENTER = View(None, mirror=False)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_embeddings_are_the_backbones_own(
    photos: Path, tiny_backbone: BackboneParams, engines: Path, tmp_path: Path, engine: str
) -> None:
    """Each row, by digest, is what the frozen network gives for that image alone, at every layer and for every view."""
    rows = index_of(photos)
    shutil.copytree(engines, tmp_path / "store")
    backbone = tiny_backbone if engine == "onnx" else tiny_backbone.model_copy(update={"layers": ["last", "layer2"]})
    params = extract_params(photos, backbone, runtime={"engine": engine}, extract={"views": 2})
    done = extract(rows, params, tmp_path / "f.h5", tmp_path / "store")
    network = build_backbone(backbone).network
    maps: list[torch.Tensor] = []
    network.get_submodule("layer2").register_forward_hook(lambda _, __, output: maps.append(output))
    config: Any = network.default_cfg
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))

    assert (done.num_images, done.engine, done.px) == (12, engine, 64)
    with open_features(tmp_path / "f.h5") as features, torch.inference_mode():
        transform = transform_of(features.spec)
        for row in rows:
            picture = decode((photos / row.path).read_bytes(), 10**7).image
            for view, image in enumerate([picture, ImageOps.mirror(picture)]):
                pixels = transform.pixels(image)
                if view == 1:  # the mirror of the centre, not the centre of the mirror, which rounds differently
                    pixels = transform.pixels(picture)[:, ::-1]
                inputs = (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - mean) / std
                alone = network(inputs[None]).numpy()
                assert np.abs(features.read("last", [row.digest])[:, view] - alone).max() < 1e-4
                if engine == "torch":
                    pooled = maps.pop().mean((2, 3)).numpy()
                    assert np.abs(features.read("layer2", [row.digest])[:, view] - pooled).max() < 1e-4
        assert features.read("last", [row.digest for row in rows]).std(axis=0).max() > 0.01  # they do differ


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("runtime", [{"workers": 1}, {"workers": 5}, {"memory": 64 * 2**20}])
def test_bytes_do_not_depend_on_the_machine(
    photos: Path, tiny_backbone: BackboneParams, engines: Path, tmp_path: Path, runtime: dict[str, int], engine: str
) -> None:
    """The number of threads, the memory budget and the order of the index do not change the bytes."""
    rows = index_of(photos)
    for name, order, changes in (("a", 1, {}), ("b", -1, runtime)):
        shutil.copytree(engines, tmp_path / name)
        params = extract_params(photos, tiny_backbone, runtime={"engine": engine} | changes)
        extract(rows[::order], params, tmp_path / f"{name}.h5", tmp_path / name)

    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_an_embedding_does_not_depend_on_the_other_images(
    photos: Path, tiny_backbone: BackboneParams, engines: Path, tmp_path: Path, engine: str
) -> None:
    """The row of an image has the same bits in sets of 12 images and of 1, because the last batch is filled up."""
    rows = index_of(photos)
    params = extract_params(photos, tiny_backbone, runtime={"engine": engine})
    for name, some in (("all", rows), ("one", rows[3:4])):
        shutil.copytree(engines, tmp_path / name)
        extract(some, params, tmp_path / f"{name}.h5", tmp_path / name)

    with open_features(tmp_path / "all.h5") as features, open_features(tmp_path / "one.h5") as one:
        digests = [rows[3].digest]
        assert np.array_equal(features.read("last", digests), one.read("last", digests))


def test_the_network_always_sees_full_batches(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every forward pass, also the last, has the same shape: another one may use another kernel and give other bits."""
    backbone = build_backbone(tiny_backbone)
    seen = []
    backbone.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr(backbones, "build_backbone", lambda _: backbone)
    params = extract_params(photos, tiny_backbone, runtime={"batch": 5})
    extract(index_of(photos), params, tmp_path / "f.h5", tmp_path / "f")

    assert set(seen[:2]) == {1}  # blank pictures, to learn the shapes
    assert set(seen[2:]) == {5}
    assert len(seen) > 5


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("batch", [2, 3, "auto"])
def test_batch_and_engine_change_rounding_only(
    photos: Path, tiny_backbone: BackboneParams, engines: Path, tmp_path: Path, batch: int | str, engine: str
) -> None:
    """Another batch size or engine gives the same embeddings within the rounding of float32."""
    rows = index_of(photos)
    digests = [row.digest for row in rows]
    shutil.copytree(engines, tmp_path / "b")
    extract(rows, extract_params(photos, tiny_backbone), tmp_path / "a.h5", tmp_path / "a")
    other = extract_params(photos, tiny_backbone, runtime={"batch": batch, "engine": engine})
    extract(rows, other, tmp_path / "b.h5", tmp_path / "b")

    with open_features(tmp_path / "a.h5") as a, open_features(tmp_path / "b.h5", a.spec) as b:
        assert np.allclose(a.read("last", digests), b.read("last", digests), rtol=1e-4, atol=1e-4)


def test_extraction_leaves_the_network_as_it_was(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every parameter and buffer, including BatchNorm statistics, keeps its bits."""
    backbone = build_backbone(tiny_backbone)
    before = {name: tensor.clone() for name, tensor in backbone.network.state_dict().items()}
    monkeypatch.setattr(backbones, "build_backbone", lambda _: backbone)
    extract(index_of(photos), extract_params(photos, tiny_backbone), tmp_path / "f.h5", tmp_path / "f")

    assert any("running_mean" in name for name in before)
    for name, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_labels_and_unused_files_play_no_part(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """If every photo moves to another class and a quarantined file is added, no byte changes."""
    params = extract_params(photos, tiny_backbone)
    extract(index_of(photos), params, tmp_path / "a.h5", tmp_path / "a")
    (photos / "red").rename(photos / "crimson")
    (photos / "crimson" / "bad.png").write_bytes(b"bad")
    extract(index_of(photos), params, tmp_path / "b.h5", tmp_path / "b")

    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("kind", ["changed", "gone"])
def test_a_file_that_is_not_as_indexed_stops_the_run(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, kind: str
) -> None:
    """A photo that was edited or removed after indexing is an error that names it, and no features file is left."""
    rows = index_of(photos)
    if kind == "gone":
        (photos / "red" / "1.png").unlink()
    else:
        Image.new("RGB", (40, 40)).save(photos / "red" / "1.png")

    with pytest.raises(DataError, match=r"red/1\.png.*[Rr]un: dvc repro"):
        extract(rows, extract_params(photos, tiny_backbone), tmp_path / "f.h5", tmp_path / "f")
    assert not (tmp_path / "f.h5").exists()
    assert not list(tmp_path.glob(".f.h5*"))
    if kind == "gone":  # told before any work
        assert not list((tmp_path / "f").glob(f"*/{SHARD_PATTERN}"))


def test_an_index_without_usable_images_is_refused(tmp_path: Path, tiny_backbone: BackboneParams) -> None:
    """An index without usable images is an error, not an empty file."""
    with pytest.raises(DataError, match="no usable image"):
        extract([], extract_params(tmp_path, tiny_backbone), tmp_path / "f.h5", tmp_path / "f")


@pytest.mark.parametrize("views", [1, 3])
def test_half_precision_halves_the_file(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, views: int
) -> None:
    """float16 keeps the embeddings to three digits, in a store apart from the one of float32."""
    rows = index_of(photos)
    digests = [row.digest for row in rows]
    for name in ("float32", "float16"):
        params = extract_params(photos, tiny_backbone, extract={"precision": name, "views": views})
        done = extract(rows, params, tmp_path / f"{name}.h5", tmp_path / "store")
        assert done.num_embedded == 12

    with open_features(tmp_path / "float32.h5") as full, open_features(tmp_path / "float16.h5") as half:
        assert half.read("last", digests).shape == (12, views, 96)
        assert np.allclose(full.read("last", digests), half.read("last", digests), rtol=1e-3, atol=1e-3)
        assert not np.array_equal(full.read("last", digests), half.read("last", digests))


def test_values_beyond_half_precision_are_refused(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedding too large for float16 is an error that says what to do, never a silent infinity."""
    build = build_backbone

    def huge(params: BackboneParams) -> Any:
        backbone = build(params)
        backbone.network.get_submodule("layer4").register_forward_hook(lambda _, __, output: output * 1e6)
        return backbone

    monkeypatch.setattr(backbones, "build_backbone", huge)
    params = extract_params(photos, tiny_backbone, extract={"precision": "float16"})
    with pytest.raises(FeatureFileError, match=r"not finite in float16.*set extract\.precision to float32"):
        extract(index_of(photos), params, tmp_path / "f.h5", tmp_path / "store")


class MeanEngine(Engine):
    """An engine whose embedding is the mean colour of the picture."""

    name = "mean"
    dims = {"last": 3}  # noqa: RUF012

    def __init__(self, batch: int, num_parallel: int = 1) -> None:
        self.batch, self.num_parallel = batch, num_parallel

    def embed(self, pixels_BHWC: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return (B, 3)."""
        return {"last": pixels_BHWC.mean((1, 2)).astype(np.float32)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 10**6), st.booleans(), st.sampled_from([1, 4]))
@pytest.mark.slow
def test_the_pipeline_keeps_order_and_loses_nothing(
    photos: Path, batch: int, num_workers: int, memory: int, mirrored: bool, num_parallel: int
) -> None:
    """For any batch, threads, memory, views and engine, rows come in order, each once, with their own embeddings."""
    rows = index_of(photos)
    views = [CENTER, View(None, mirror=True)] if mirrored else [CENTER]
    reader = Reader(Folder(photos), SMALL, views, MemoryBudget(memory), Clock(), min_side_px=None)
    parts = list(embed_rows(rows, reader, MeanEngine(batch, num_parallel), len(views), num_workers))
    found = np.concatenate([embeddings["last"] for _, embeddings in parts])

    assert [row for part, _ in parts for row in part] == rows
    assert found.shape == (12, len(views), 3)
    for row, means in zip(rows, found, strict=True):
        pixels = SMALL.pixels(decode((photos / row.path).read_bytes(), 10**7).image)
        assert np.allclose(means, pixels.mean((0, 1)))


@pytest.mark.parametrize("num_parallel", [1, 4])
def test_rows_before_a_changed_file_are_given_first(photos: Path, num_parallel: int) -> None:
    """A file that has changed ends the pipeline with an error, after the embeddings of all batches before it."""
    rows = index_of(photos)
    rows[7] = replace(rows[7], digest="0" * 64)
    reader = Reader(Folder(photos), SMALL, [CENTER], MemoryBudget(2**30), Clock(), min_side_px=None)
    embedded = embed_rows(rows, reader, MeanEngine(3, num_parallel), 1, num_workers=2)
    given: list[IndexRow] = []
    with pytest.raises(DataError, match=rf"{rows[7].path}: has changed"):
        for part, _ in embedded:
            given.extend(part)
    assert given == rows[:6]


@pytest.mark.parametrize(
    ("options", "min_side_px", "beside_each_other"),
    [
        ({"format": "PNG"}, None, False),
        ({"format": "PNG"}, 64, False),  # decoded whole before it is reduced
        ({"format": "JPEG"}, None, False),
        ({"format": "JPEG"}, 64, True),
        ({"format": "JPEG", "progressive": True, "subsampling": 0}, 64, False),  # all coefficients are kept
    ],
)
def test_no_more_is_decoded_than_the_budget_holds(
    tmp_path: Path, options: dict[str, Any], min_side_px: int | None, *, beside_each_other: bool
) -> None:
    """Pictures whose decoding takes more than half of the memory are decoded one at a time for any number of threads.

    A JPEG that is reduced when it is decoded takes little, unless it is progressive.
    """
    for number in range(6):
        suffix = options["format"].lower()
        Image.new("RGB", (1200, 1200), (number, 0, 0)).save(tmp_path / f"{number}.{suffix}", **options)
    rows = index_of(tmp_path)
    active = peak = 0
    lock = threading.Lock()

    class Counting(Transform):
        def pixels(self, image: Image.Image, extent: Extent | None = None) -> NDArray[np.uint8]:
            nonlocal active, peak
            with lock:
                active += 1
                peak = max(peak, active)
            time.sleep(0.02)  # long enough for another thread to come in
            pixels = super().pixels(image, extent)
            with lock:
                active -= 1
            return pixels

    transform = Counting(32, 32, squash=False, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    for num_bytes, expected in ((12 * 2**20, beside_each_other), (-5, False), (2**40, True)):
        peak = 0
        budget = MemoryBudget(num_bytes)
        reader = Reader(Folder(tmp_path), transform, [CENTER], budget, Clock(), min_side_px=min_side_px)
        list(embed_rows(rows, reader, MeanEngine(1), 1, num_workers=8))
        assert (peak > 1) == expected


class Needy(torch.nn.Module):
    """A network on a device whose memory holds few pictures."""

    layers = ("last",)

    def __init__(self, max_batch: int) -> None:
        super().__init__()
        self.max_batch, self.dims = max_batch, {"last": 3}

    def forward(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor]:
        """Return the mean colours, or raise the error of a GPU that is out of memory."""
        if len(pixels_BHWC) > self.max_batch:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (pixels_BHWC.float().mean((1, 2)),)


def test_out_of_memory_halves_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    """A batch too large for the device is tried again in halves, down to two pictures, and no row is lost."""
    network: Any = Needy(5)
    engine = TorchEngine(network, "cpu", 32, "float32", Clock())
    pixels = np.random.default_rng(0).integers(0, 256, size=(50, 8, 8, 3), dtype=np.uint8)

    assert np.allclose(engine.embed(pixels)["last"], pixels.mean((1, 2)))
    assert engine.batch == 4
    assert "out of memory with 32 pictures at once; continuing with 16" in capsys.readouterr().err
    with pytest.raises(BackboneError, match="even for two pictures"):
        TorchEngine(Needy(1), "cpu", 8, "float32", Clock()).embed(pixels)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_facts_of_an_exported_backbone_are_checked(
    place: float, photos: Path, tiny_backbone: BackboneParams, engines: Path, tmp_path: Path
) -> None:
    """If a bit of the kept facts of a network has flipped, they are made anew, and the features are the same."""
    rows = index_of(photos)
    params = extract_params(photos, tiny_backbone, runtime={"engine": "onnx"})
    shutil.copytree(engines, tmp_path / "store")
    extract(rows, params, tmp_path / "before.h5", tmp_path / "store")
    (facts,) = (tmp_path / "store" / "engines").glob("*.json")
    data = bytearray(facts.read_bytes())
    digits = [number for number, byte in enumerate(data) if chr(byte).isdigit()]
    data[digits[int(place * len(digits))]] ^= 1
    facts.write_bytes(data)
    extract(rows, params, tmp_path / "after.h5", tmp_path / "store")

    assert (tmp_path / "before.h5").read_bytes() == (tmp_path / "after.h5").read_bytes()
    assert facts.read_bytes() != bytes(data)


def test_processes_find_the_memory_of_the_device_free(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage's own network is gone while several processes embed. The rate says that their start counts."""
    rows = index_of(photos)
    params = extract_params(photos, tiny_backbone, runtime={"processes": 2})
    alive: list[bool] = []
    closed: list[TorchEngine] = []
    close = TorchEngine.close

    def close_and_note(engine: TorchEngine) -> None:
        closed.append(engine)
        close(engine)

    monkeypatch.setattr(TorchEngine, "close", close_and_note)

    def embed_all(*_: object) -> bool:
        alive.extend(hasattr(engine, "_network") for engine in closed)
        for number in range(2):
            fill_store(rows, params, tmp_path / "store", Rank(number, 2))
        return True

    monkeypatch.setattr(extraction, "run_processes", embed_all)
    done = extract(rows, params, tmp_path / "f.h5", tmp_path / "store")
    assert alive == [False]
    assert done.num_embedded == 12
    assert "images/s, the start of the processes included" in done.summary("tiny")


@pytest.mark.parametrize(("batch", "num_buffers"), [(2, 4), (8, 3)])
def test_batches_that_wait_count_as_memory(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int,
    num_buffers: int,
) -> None:  # fmt: skip
    """Buffers are part of `runtime.memory`: one for the engine, at least two for decoding, two images a thread."""
    left: list[int] = []

    def limit(num_bytes: int, device: str) -> MemoryBudget:
        left.append(num_bytes)
        return memory_for_decoding(num_bytes, device)

    monkeypatch.setattr(extractor, "memory_for_decoding", limit)
    params = extract_params(photos, tiny_backbone, runtime={"batch": batch, "memory": 2**40, "workers": 3})
    Extractor(index_of(photos), params, tmp_path / "store")
    assert left == [2**40 - num_buffers * batch * 64 * 64 * 3]


def test_the_engine_is_a_static_rule(photos: Path, tiny_backbone: BackboneParams) -> None:
    """By default ONNX Runtime is tried first on a CPU, and torch elsewhere; the params override it."""
    auto = extract_params(photos, tiny_backbone, runtime={"engine": "auto"}).runtime
    chosen = extract_params(photos, tiny_backbone).runtime

    assert engines_to_try(auto, "cpu") == ("onnx", "torch")
    assert engines_to_try(auto, "cuda:0") == engines_to_try(auto, "mps") == engines_to_try(auto, "xpu") == ("torch",)
    assert engines_to_try(chosen, "cpu") == ("torch",)


def test_the_engines_to_try_are_those_that_exist() -> None:
    """The table of `auto` and params.yaml name engines that the stage can make."""
    tried = {name for names in AUTO_ENGINES.values() for name in names}

    assert tried == set(embedder.EMBEDDERS)
    assert {"auto", *embedder.EMBEDDERS} == set(get_args(RuntimeParams.model_fields["engine"].annotation))


def test_onnx_on_another_device_is_refused(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that cannot use the chosen device is an error, not another device."""
    monkeypatch.setattr(embedder, "choose_device", lambda _: "cuda")
    with pytest.raises(ParamsError, match=r"runtime\.engine: onnx runs on the CPU only; the device is cuda"):
        extract(index_of(photos), extract_params(photos, tiny_backbone, runtime={"engine": "onnx"}), tmp_path, tmp_path)


@pytest.mark.slow
def test_mistakes_in_the_backbone_are_told_as_they_are(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path
) -> None:
    """An error of the export process is raised with its own message, and torch does not run the network instead."""
    params = extract_params(photos, tiny_backbone.model_copy(update={"layers": ["layr2"]}), runtime={"engine": "auto"})
    with pytest.raises(BackboneError, match="'layr2' is no module of this network; near ones are"):
        extract(index_of(photos), params, tmp_path / "f.h5", tmp_path / "store")


def test_what_onnx_cannot_run_is_run_by_torch(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A network that cannot be exported runs in torch, with a warning; with `engine: onnx` it is an error."""

    def fail(*_: object) -> None:
        raise ExportError("no such operator")

    monkeypatch.setattr(embedder, "export_backbone", fail)
    auto, named = (extract_params(photos, tiny_backbone, runtime={"engine": name}) for name in ("auto", "onnx"))

    assert extract(index_of(photos), auto, tmp_path / "f.h5", tmp_path / "store").engine == "torch"
    assert "runs in torch, which is slower: no such operator" in capsys.readouterr().out
    with pytest.raises(BackboneError, match=r"engine: ONNX Runtime cannot run this backbone: no such operator"):
        extract(index_of(photos), named, tmp_path / "f.h5", tmp_path / "store")


def test_a_graph_that_does_not_load_is_no_export(
    tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network whose graph ONNX Runtime rejects counts as one that cannot be exported."""

    def refuse(*_: object) -> None:
        raise BackboneError("not implemented")

    monkeypatch.setattr(graphs, "OnnxEngine", refuse)
    with pytest.raises(ExportError, match="not implemented"):
        export_process._export(tiny_backbone, 64, 64.0, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_export_that_cannot_be_written_is_told(tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """If the graph cannot be written to the store, the error names the folder."""
    (tmp_path / "full").write_text("no folder")
    with pytest.raises(StoreError, match="full: cannot be written to"):
        export_backbone(tiny_backbone, 64, 64.0, tmp_path / "full")


def test_an_exported_network_is_kept_and_checked(
    photos: Path, tiny_backbone: BackboneParams, engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A stored graph is reused; if it is damaged, or after an upgrade or an edit, the network is exported again."""
    root = tmp_path / "store"
    shutil.copytree(engines, root)
    params = extract_params(photos, tiny_backbone, runtime={"engine": "onnx"})
    exported = []

    def export(*_: object) -> None:
        exported.append(backbone_key(tiny_backbone))
        for file in engines.glob("engines/*"):
            shutil.copy(file, root / "engines" / file.name.replace(kept_key, exported[-1]))

    kept_key = backbone_key(tiny_backbone)
    monkeypatch.setattr(embedder, "export_backbone", export)
    extract(index_of(photos), params, tmp_path / "f.h5", root)
    assert exported == []
    (graph,) = (root / "engines").glob("*.onnx")
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    extract(index_of(photos), params, tmp_path / "f.h5", root)
    assert exported == [kept_key]
    assert f"{graph}: this exported network is damaged" in capsys.readouterr().out
    monkeypatch.setattr(cache, "version", lambda name: f"{name} 99")
    extract(index_of(photos), params, tmp_path / "f.h5", root)
    assert len(exported) == 2


def test_an_edit_of_the_code_that_exports_gives_another_key(
    tiny_backbone: BackboneParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exported network is found again only while the modules that made it are the same."""
    before = backbone_key(tiny_backbone)
    edited = lambda *places: code_digests(*places) | {"headstart/backbone/layers.py": "0"}  # noqa: E731
    monkeypatch.setattr(cache, "code_digests", edited)

    assert backbone_key(tiny_backbone) != before


def test_a_run_by_a_kept_network_needs_no_torch(
    photos: Path, tiny_backbone: BackboneParams, engines: Path, tmp_path: Path
) -> None:
    """If the graph is in the store, torch is not imported, which saves seconds in every run."""
    shutil.copytree(engines, tmp_path / "store")
    code = (
        "import sys; from pathlib import Path; from stages.extract.params import Params; "
        "from stages.extract.extraction import extract; from stages.index.build import build_index; "
        "from headstart.sources.folder import Folder; "
        "from stages.index.params import IndexParams; params = Params.model_validate_json(sys.argv[1]); "
        "root = Path(params.data.path); rows = build_index(Folder(root), Folder(root).list_files(), "
        "IndexParams(extensions=['jpg', 'png'], max_pixels=10**7, on_bad='fail', "
        "max_seconds=60.0, max_bad_fraction=0.0, max_removed_fraction=0.1, table=None), 1); "
        "print(extract(rows, params, Path(sys.argv[2]), Path(sys.argv[3])).num_embedded, 'torch' in sys.modules)"
    )
    params = extract_params(photos, tiny_backbone, runtime={"engine": "auto", "device": "auto"})
    command = [sys.executable, "-c", code, params.model_dump_json(), str(tmp_path / "f.h5"), str(tmp_path / "store")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "12 False", done.stderr


def test_few_pictures_run_alone_if_that_changes_no_bit(engines: Path) -> None:
    """Fewer pictures than a batch have the bits that they have in a batch. After one try they take no more time."""
    (graph,) = engines.glob("engines/*.onnx")
    engine = OnnxEngine(graph.read_bytes(), 1, 4, "float32", Clock())
    lengths: list[int] = []
    session = engine._session

    class Counting:
        def run(self, names: list[str], inputs: dict[str, NDArray[np.uint8]]) -> Any:
            lengths.append(len(*inputs.values()))
            return session.run(names, inputs)

    engine._session = Counting()
    pixels = np.random.default_rng(0).integers(0, 256, size=(4, 64, 64, 3), dtype=np.uint8)
    together = engine.embed(pixels)
    for num in (1, 2, 1, 2, 4):
        alone = engine.embed(pixels[:num])
        assert all(np.array_equal(alone[layer], together[layer][:num]) for layer in together)

    assert lengths == [4, 4, 1, 4, 2, 1, 2, 4]


def test_few_pictures_fill_a_batch_if_alone_they_have_other_bits(engines: Path) -> None:
    """Where the bits depend on the number of pictures, every pass stays full, so that embeddings do not."""
    (graph,) = engines.glob("engines/*.onnx")
    engine = OnnxEngine(graph.read_bytes(), 1, 4, "float32", Clock())
    session = engine._session

    class Sensitive:
        def run(self, names: list[str], inputs: dict[str, NDArray[np.uint8]]) -> Any:
            (pixels,) = inputs.values()
            return [rows * np.float32(1 + len(pixels) * 1e-6) for rows in session.run(names, inputs)]

    engine._session = Sensitive()
    pixels = np.random.default_rng(0).integers(0, 256, size=(4, 64, 64, 3), dtype=np.uint8)
    together = engine.embed(pixels)
    for num in (1, 1, 3):
        alone = engine.embed(pixels[:num])
        assert all(np.array_equal(alone[layer], together[layer][:num]) for layer in together)
