"""The store: no image is embedded twice, whatever happens, and never by another recipe than this run's."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from stages.core import images
from stages.core.backbones import Backbone, build_backbone
from stages.core.errors import DataError, FeatureFileError, StoreError
from stages.core.files import sha256_file
from stages.core.sections import BackboneParams, DataParams, RuntimeParams, TransformParams
from stages.core.transforms import Transform
from stages.extract import canary, embed, extraction, reader, store
from stages.extract.extraction import Extraction, extract
from stages.extract.params import Params
from stages.extract.store import Store, store_root
from stages.index.ledger import build_ledger
from stages.index.params import IndexParams
from tests.conftest import write_photos
from tests.source import ROOT

INDEX = IndexParams(extensions=["jpg", "png"], max_pixels=10**7)


def runtime(**changes: Any) -> RuntimeParams:
    """Return the machine's settings."""
    defaults = {"device": "cpu", "workers": 2, "batch": 4, "memory": 2**30, "store": "auto"}
    return RuntimeParams.model_validate(defaults | changes)


def run(photos: Path, backbone: BackboneParams, path: Path, root: Path) -> Extraction:
    """Extract a folder's photos into `path`, with the stores in `root`."""
    params = Params(
        data=DataParams(path=str(photos)), backbone=backbone, transform=TransformParams(px=64), runtime=runtime()
    )
    return extract(build_ledger(photos, INDEX, 2), params, path, root)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a shard after every batch of 4."""
    monkeypatch.setattr(store, "SHARD_BYTES", 4 * 96 * 4)


@pytest.fixture
def cold(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> bytes:
    """The features file of the 12 photos as an empty store gives it."""
    done = run(photos, tiny_backbone, tmp_path / "cold.h5", tmp_path / "cold")

    assert done.num_embedded == 12
    return (tmp_path / "cold.h5").read_bytes()


@pytest.mark.usefixtures("small_shards")
def test_only_new_images_are_embedded(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """A second run embeds nothing, one photo more costs one, and the bytes are those of a cold run."""
    root, path = tmp_path / "store", tmp_path / "f.h5"
    counts = [run(photos, tiny_backbone, path, root).num_embedded for _ in range(2)]
    Image.new("RGB", (40, 40), (9, 9, 9)).save(photos / "red" / "new.png")
    counts.append(run(photos, tiny_backbone, path, root).num_embedded)
    run(photos, tiny_backbone, tmp_path / "cold.h5", tmp_path / "other")

    assert counts == [12, 0, 1]
    assert path.read_bytes() == (tmp_path / "cold.h5").read_bytes()


def test_another_recipe_has_rows_of_its_own(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """Rows made at another size are not mixed in, and are still there when one goes back."""
    params = Params(
        data=DataParams(path=str(photos)),
        backbone=tiny_backbone,
        transform=TransformParams(px=96),
        runtime=runtime(),
    )
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")

    assert extract(build_ledger(photos, INDEX, 2), params, tmp_path / "g.h5", tmp_path / "store").num_embedded == 12
    assert run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store").num_embedded == 0


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_named_set_aside_and_made_again(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, cold: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped bit costs the shard's images one more pass, and nothing of it reaches the result."""
    root = tmp_path / "store"
    run(photos, tiny_backbone, tmp_path / "f.h5", root)
    shard = sorted(root.glob(f"*/{store._SHARD_NAME}"))[0]
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    done = run(photos, tiny_backbone, tmp_path / "f.h5", root)

    assert done.num_embedded == 4
    assert (tmp_path / "f.h5").read_bytes() == cold
    assert shard.with_suffix(".damaged").exists()
    assert f"a damaged shard is set aside and its images embedded anew: {shard.with_suffix('.damaged')}" in (
        capsys.readouterr().out
    )


def test_what_was_embedded_before_an_error_is_kept(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """A photo that has changed stops the run, but the photos before it need not be embedded again."""
    rows = build_ledger(photos, INDEX, 2)
    last = max(rows, key=lambda row: row.digest)
    params = Params(
        data=DataParams(path=str(photos)), backbone=tiny_backbone, transform=TransformParams(px=64), runtime=runtime()
    )
    original = (photos / last.path).read_bytes()
    (photos / last.path).write_bytes(b"changed")
    with pytest.raises(DataError, match="has changed since it was indexed"):
        extract(rows, params, tmp_path / "f.h5", tmp_path / "store")
    (photos / last.path).write_bytes(original)

    assert extract(rows, params, tmp_path / "f.h5", tmp_path / "store").num_embedded == 4  # the last batch


CODE = """
import sys
from importlib.metadata import version
from pathlib import Path
from stages.core.sections import BackboneParams
from stages.extract import store
from tests.unit.test_store import run
store.SHARD_BYTES = 4 * 96 * 4
photos, weights, sha256, out, root = sys.argv[1:]
print("start", flush=True)
backbone = BackboneParams(name="timm/test_resnet", weights=weights, weights_sha256=sha256)
print(run(Path(photos), backbone, Path(out), Path(root)).num_embedded, flush=True)
"""


def start(photos: Path, backbone: BackboneParams, out: Path, root: Path) -> subprocess.Popen[str]:
    """Start an extraction in a process of its own and wait until its imports are done."""
    command = [sys.executable, "-c", CODE, *map(str, (photos, backbone.weights, backbone.weights_sha256, out, root))]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "start\n"
    return process


def test_a_killed_run_is_continued(tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """Killed five times on the way, the work ends with the same bytes, and finished shards are not redone."""
    photos, root, out = tmp_path / "photos", tmp_path / "store", tmp_path / "f.h5"
    write_photos(photos, per_class=60)
    rows = build_ledger(photos, INDEX, 2)
    run(photos, tiny_backbone, tmp_path / "cold.h5", tmp_path / "cold")
    for num_shards in (2, 8, 15, 22, 28):
        with start(photos, tiny_backbone, out, root) as process:
            while len(list(root.glob(f"*/{store._SHARD_NAME}"))) < num_shards and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
    (folder,) = root.iterdir()
    digests = [row.digest for row in rows]
    left = Store(folder, sha256_file(folder / canary.NAME), digests)
    kept = sum(digest in left for digest in digests)
    assert 0 < kept < 180
    done = run(photos, tiny_backbone, out, root)

    assert done.num_embedded == 180 - kept
    assert out.read_bytes() == (tmp_path / "cold.h5").read_bytes()
    assert not list(tmp_path.glob(".f.h5.*"))


def test_two_runs_share_one_store(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, cold: bytes) -> None:
    """Two processes at once on one store both end, and both give the bytes of a run alone."""
    processes = [start(photos, tiny_backbone, tmp_path / f"{name}.h5", tmp_path / "store") for name in "ab"]
    for process in processes:
        process.communicate()
        assert process.returncode == 0

    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes() == cold


def other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change a weight behind the digest's back."""

    def build(params: BackboneParams) -> Backbone:
        backbone = build_backbone(params)
        next(backbone.network.parameters()).data.mul_(1.05)
        return backbone

    monkeypatch.setattr(extraction, "build_backbone", build)


def other_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resize by another filter than the spec says."""
    pixels = Transform.pixels
    monkeypatch.setattr(Transform, "pixels", lambda self, image: pixels(self, image.resize((64, 64), 0)))


def other_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget EXIF orientation."""
    monkeypatch.setattr(ImageOps, "exif_transpose", lambda image, **_: image)


def other_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the framework scale pixels slightly differently."""
    normalize = Transform.normalize
    monkeypatch.setattr(Transform, "normalize", lambda self, pixels: normalize(self, pixels) * 1.01)


@pytest.mark.parametrize("change", [other_weights, other_transform, other_decoder, other_library])
def test_a_change_behind_the_recipe_is_refused(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    """What the fingerprint cannot see shows in the canary: stored rows are refused, with the two ways out."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    change(monkeypatch)
    monkeypatch.setattr(canary, "version", lambda name: "99" if name == "pillow" else version(name))

    with pytest.raises(StoreError) as caught:
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")

    assert f"pillow {version('pillow')} -> 99" in str(caught.value)
    assert f"embed all anew (rm -r {tmp_path / 'store'}" in str(caught.value)


def test_a_change_in_a_rare_kind_of_file_is_refused(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canary's pictures cover every kind that is decoded: a changed palette is noticed without a palette photo."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    monkeypatch.setattr(embed, "decode", lambda data, limit: _without_palette(images.decode(data, limit)))

    with pytest.raises(StoreError, match="the canary's pictures give other embeddings"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")


def _without_palette(picture: images.Picture) -> images.Picture:
    if "palette" not in picture.repairs:
        return picture
    return images.Picture(Image.new("RGB", picture.image.size), picture.format, picture.repairs)


def test_rows_that_are_wrong_are_found_by_the_audit(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong rows under a canary that is in order are noticed: a sample of the images is embedded again."""
    with monkeypatch.context() as patch:
        pixels = reader._read_pixels
        patch.setattr(reader, "_read_pixels", lambda *given: pixels(*given) // 2)
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")

    with pytest.raises(StoreError, match="8 of the images give other embeddings"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")


def test_rows_made_under_another_canary_are_not_used(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cold: bytes
) -> None:
    """When the canary of changed weights is deleted, its rows go with it: nothing vouches for them any more."""
    with monkeypatch.context() as patch:
        other_weights(patch)
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    next((tmp_path / "store").glob("*/canary.safetensors")).unlink()

    assert run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store").num_embedded == 12
    assert (tmp_path / "f.h5").read_bytes() == cold


@pytest.mark.parametrize("before", [True, False])
def test_numbers_that_are_none_pass_nowhere(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """A network that gives NaN neither agrees with a store nor leaves a canary that would agree with anything."""
    root = tmp_path / "store"
    if before:
        run(photos, tiny_backbone, tmp_path / "f.h5", root)

    def build(params: BackboneParams) -> Backbone:
        backbone = build_backbone(params)
        next(backbone.network.parameters()).data.fill_(np.nan)
        return backbone

    monkeypatch.setattr(extraction, "build_backbone", build)
    with pytest.raises(StoreError if before else FeatureFileError):
        run(photos, tiny_backbone, tmp_path / "f.h5", root)
    assert before or not list(root.glob("*/*"))


@pytest.mark.parametrize("kind", ["truncated", "flipped"])
def test_a_damaged_canary_is_told(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, kind: str) -> None:
    """A canary that cannot be read is an error with a way out, not a stack trace."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    (path,) = (tmp_path / "store").glob("*/canary.safetensors")
    data = path.read_bytes()
    middle = len(data) - 200
    path.write_bytes(data[:-9] if kind == "truncated" else data[:middle] + b"\xff" * 8 + data[middle + 8 :])

    with pytest.raises(StoreError, match="store"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")


def test_of_two_canaries_the_first_stays(tmp_path: Path) -> None:
    """Two runs that start in one empty store agree on one canary: the second compares itself with the first's."""
    first = np.ones((12, 1, 4), dtype=np.float32)

    def embed_late(_: Sequence[bytes]) -> np.ndarray[Any, Any]:
        if not (tmp_path / canary.NAME).exists():  # the other run comes in between
            canary.check_canary(tmp_path, lambda __: first)
        return first * 2

    with pytest.raises(StoreError, match="the canary's pictures give other embeddings"):
        canary.check_canary(tmp_path, embed_late)
    assert canary.check_canary(tmp_path, lambda _: first) == sha256_file(tmp_path / canary.NAME)


def test_another_batch_or_thread_count_is_no_change(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path
) -> None:
    """Rounding does not alarm the canary: rows made with other settings of the machine are reused."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    params = Params(
        data=DataParams(path=str(photos)),
        backbone=tiny_backbone,
        transform=TransformParams(px=64),
        runtime=runtime(batch=7, workers=1),
    )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done = extract(build_ledger(photos, INDEX, 2), params, tmp_path / "g.h5", tmp_path / "store")
    finally:
        torch.set_num_threads(before)

    assert done.num_embedded == 0


def test_the_store_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment goes before the params, the params before DVC's main checkout, and that before here."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("HEADSTART_STORE", raising=False)
    assert store_root(runtime()) == Path(".cache/embeddings")
    monkeypatch.setenv("DVC_ROOT", "/main")
    assert store_root(runtime()) == Path("/main/.cache/embeddings")
    assert store_root(runtime(store="/shared")) == Path("/shared")
    assert store_root(runtime(store="mine")) == Path("/main/mine")
    assert store_root(runtime(store="~/mine")) == Path.home() / "mine"
    monkeypatch.setenv("HEADSTART_STORE", str(tmp_path))
    assert store_root(runtime(store="/shared")) == tmp_path


def test_a_store_that_cannot_be_written_is_told(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """Where the store's folder cannot be made, the system's error names it, and no features file appears."""
    (tmp_path / "store").write_text("a file")

    with pytest.raises(OSError, match="store"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    assert not (tmp_path / "f.h5").exists()
