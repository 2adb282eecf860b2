"""The store: no image is embedded twice, whatever happens, and rows of another spec are never used."""

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load, load_file, save

from headstart.artifacts.features import DIGEST_DTYPE
from headstart.backbone import build as backbones
from headstart.backbone.build import build_backbone
from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.params import BackboneParams
from headstart.backbone.source import Backbone
from headstart.base import packages
from headstart.base.errors import DataError, FeatureFileError, StoreError
from headstart.base.files import sha256_file, write_json
from headstart.base.machine import RuntimeParams
from headstart.imaging import decode as images
from headstart.imaging import reader
from headstart.imaging.formats import format_names
from headstart.imaging.transform import Transform
from headstart.store import canary, shards
from headstart.store.location import alone, in_use, store_root
from headstart.store.shards import SHARD_PATTERN, Store, unpack
from headstart.store.upkeep import collect_garbage, prune, prune_outdated, summarize, verify
from headstart.tables.index import IndexRow
from headstart.tables.rows import write_rows
from stages.extract.extraction import Extraction, extract
from tests.conftest import extract_params, index_of, write_photos
from tests.support.source import ROOT


def run(photos: Path, backbone: BackboneParams, path: Path, root: Path, **changes: Any) -> Extraction:
    """Extract the photos of a folder into the file `path`, with the stores in `root`."""
    return extract(index_of(photos), extract_params(photos, backbone, **changes), path, root)


def runtime(**changes: Any) -> RuntimeParams:
    """Return the machine's settings."""
    backbone = BackboneParams(name="any", weights="auto", weights_sha256=None, layers="auto", pooling="mean")
    return extract_params(Path("photos"), backbone, runtime=changes).runtime


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a shard after every batch of 4."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 * 96 * 4)


@pytest.fixture
def cold(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> bytes:
    """The bytes of the features file of the 12 photos, extracted with an empty store."""
    done = run(photos, tiny_backbone, tmp_path / "cold.h5", tmp_path / "cold")

    assert done.num_embedded == 12
    return (tmp_path / "cold.h5").read_bytes()


@pytest.mark.usefixtures("small_shards")
def test_only_new_images_are_embedded(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """A second run embeds nothing, a run after one new photo embeds one, and the bytes are those of an empty store."""
    root, path = tmp_path / "store", tmp_path / "f.h5"
    counts = [run(photos, tiny_backbone, path, root).num_embedded for _ in range(2)]
    Image.new("RGB", (40, 40), (9, 9, 9)).save(photos / "red" / "new.png")
    counts.append(run(photos, tiny_backbone, path, root).num_embedded)
    run(photos, tiny_backbone, tmp_path / "cold.h5", tmp_path / "other")

    assert counts == [12, 0, 1]
    assert path.read_bytes() == (tmp_path / "cold.h5").read_bytes()


@pytest.mark.parametrize("transform", [{"px": 96}, {"decode": "exact"}])
def test_another_spec_has_rows_of_its_own(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, transform: dict[str, Any]
) -> None:
    """Rows of another input size or way of decoding are not used, and remain for a run that goes back to it."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")

    assert run(photos, tiny_backbone, tmp_path / "g.h5", tmp_path / "store", transform=transform).num_embedded == 12
    assert run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store").num_embedded == 0


def test_only_a_new_layer_is_embedded(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """A new layer alone is embedded, removing a layer costs nothing, and the bytes are those of an empty store."""
    root = tmp_path / "store"
    more = tiny_backbone.model_copy(update={"layers": ["layer2", "last"]})
    run(photos, tiny_backbone, tmp_path / "f.h5", root)
    before = {shard: shard.read_bytes() for shard in root.glob(f"*/{SHARD_PATTERN}")}
    done = run(photos, more, tmp_path / "more.h5", root)
    run(photos, more, tmp_path / "cold.h5", tmp_path / "other")

    assert (done.num_embedded, list(done.dims)) == (12, ["layer2", "last"])
    assert (tmp_path / "more.h5").read_bytes() == (tmp_path / "cold.h5").read_bytes()
    assert all(shard.read_bytes() == data for shard, data in before.items())
    assert len(list(root.glob(f"*/{SHARD_PATTERN}"))) == len(before) + 1
    fewer = tiny_backbone.model_copy(update={"layers": ["layer2"]})
    assert run(photos, fewer, tmp_path / "fewer.h5", root).num_embedded == 0


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_named_set_aside_and_made_again(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, cold: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a flipped bit, the images of the shard are embedded again, and the result is right."""
    root = tmp_path / "store"
    run(photos, tiny_backbone, tmp_path / "f.h5", root)
    shard = sorted(root.glob(f"*/{SHARD_PATTERN}"))[0]
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    done = run(photos, tiny_backbone, tmp_path / "f.h5", root)

    assert done.num_embedded == 4
    assert (tmp_path / "f.h5").read_bytes() == cold
    assert shard.with_suffix(".damaged").exists()
    assert f"a damaged shard is set aside and its images are embedded again: {shard.with_suffix('.damaged')}" in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("kind", ["noise", "fewer rows", "not finite", "another type", "a tensor less"])
def test_a_file_that_is_no_shard_is_set_aside(
    kind: str, photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, cold: bytes
) -> None:
    """A file with the name of its content, but whose content is no shard, is set aside, and its images made again."""
    root = tmp_path / "store"
    run(photos, tiny_backbone, tmp_path / "f.h5", root)
    shard = sorted(root.glob(f"*/{SHARD_PATTERN}"))[0]
    tensors = load(shard.read_bytes())
    rows = tensors["embedding"]
    data = {
        "noise": b"garbage",
        "fewer rows": save(tensors | {"embedding": rows[:-1]}),
        "not finite": save(tensors | {"embedding": np.full_like(rows, np.nan)}),
        "another type": save(tensors | {"embedding": rows.astype(np.float64)}),
        "a tensor less": save({name: tensor for name, tensor in tensors.items() if name != "canary"}),
    }[kind]
    shard.unlink()
    wrong = shard.with_name(f"{hashlib.sha256(data).hexdigest()}.safetensors")
    wrong.write_bytes(data)
    assert verify(root) == [wrong]
    wrong.write_bytes(data)
    done = run(photos, tiny_backbone, tmp_path / "f.h5", root)

    assert done.num_embedded == 4
    assert (tmp_path / "f.h5").read_bytes() == cold
    assert wrong.with_suffix(".damaged").exists()


def test_what_was_embedded_before_an_error_is_kept(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """A photo that has changed stops the run, but the photos before it are not embedded again."""
    rows = index_of(photos)
    last = max(rows, key=lambda row: row.digest)
    params = extract_params(photos, tiny_backbone)
    original = (photos / last.path).read_bytes()
    (photos / last.path).write_bytes(b"changed")
    with pytest.raises(DataError, match="has changed since it was indexed"):
        extract(rows, params, tmp_path / "f.h5", tmp_path / "store")
    (photos / last.path).write_bytes(original)

    assert extract(rows, params, tmp_path / "f.h5", tmp_path / "store").num_embedded == 4  # the last batch


CODE = """
import sys
import time
from pathlib import Path
from headstart.base.entry import run_main
from headstart.tables.index import IndexRow
from headstart.tables.rows import read_rows
from stages.extract.extraction import extract
from stages.extract.params import Params
from headstart.imaging.reader import Reader
from headstart.store import shards

shards.SHARD_BYTES = 4 * 96 * 4
params, index, out, root = sys.argv[1:]
pixels = Reader.pixels
Reader.pixels = lambda *given: time.sleep(0.004) or pixels(*given)  # a slow disk: time enough to be killed in
print("start", flush=True)
run_main("extract", lambda: print(extract(
    read_rows(Path(index), IndexRow), Params.model_validate_json(params), Path(out), Path(root)
).num_embedded))
"""


def start(
    photos: Path, backbone: BackboneParams, out: Path, root: Path, prefix: Sequence[str] = (), **changes: Any
) -> subprocess.Popen[str]:
    """Start an extraction with an exported network in another process, and wait until its imports are done."""
    index = root.parent / "index.csv"
    if not index.exists():
        write_rows(index, index_of(photos), IndexRow)
    params = extract_params(photos, backbone, runtime={"engine": "onnx"} | changes)
    command = [*prefix, sys.executable, "-c", CODE, params.model_dump_json(), str(index), str(out), str(root)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "start\n"
    return process


@pytest.fixture
def warm(engines: Path, tmp_path: Path) -> Path:
    """A store that holds only the exported tiny network."""
    return Path(shutil.copytree(engines, tmp_path / "warm" / "store"))


def embedded_digests(root: Path) -> Counter[bytes]:
    """Count how often each image is in the finished shards of a store."""
    counts: Counter[bytes] = Counter()
    for shard in root.glob(f"*/{SHARD_PATTERN}"):
        counts.update(unpack(load_file(shard)["digest"]).tolist())
    return counts


@pytest.mark.slow
def test_a_killed_run_is_continued(tiny_backbone: BackboneParams, engines: Path, tmp_path: Path, warm: Path) -> None:
    """A run killed at 30 random moments ends with the bytes of an undisturbed run, and no finished shard is lost."""
    photos, out = tmp_path / "photos", tmp_path / "f.h5"
    write_photos(photos, per_class=400)
    cold = Path(shutil.copytree(engines, tmp_path / "cold" / "store"))
    with start(photos, tiny_backbone, tmp_path / "cold.h5", cold) as process:
        start_time = time.monotonic()
        assert process.communicate()[0] == "1200\n"
    seconds = time.monotonic() - start_time
    random = np.random.default_rng(0)
    left: list[int] = []
    for number in range(30):
        with start(photos, tiny_backbone, out, warm) as process:
            if number % 3:  # in the middle of embedding: so many shards later
                num_shards = len(list(warm.glob(f"*/{SHARD_PATTERN}"))) + random.integers(1, 4)
                while len(list(warm.glob(f"*/{SHARD_PATTERN}"))) < num_shards and process.poll() is None:
                    time.sleep(0.0005)
            else:
                time.sleep(random.uniform(0, seconds / 8))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        left.append(sum(embedded_digests(warm).values()))
    with start(photos, tiny_backbone, out, warm) as process:
        num_embedded = int(process.communicate()[0])

    assert 0 < left[-1] < 1200
    assert left == sorted(left)  # nothing that was finished is ever lost
    assert num_embedded == 1200 - left[-1]
    assert out.read_bytes() == (tmp_path / "cold.h5").read_bytes()
    assert embedded_digests(warm) == Counter(embedded_digests(cold).keys())
    assert len(embedded_digests(warm)) == 1200
    assert not list(tmp_path.glob(".f.h5.*"))


@pytest.mark.slow
def test_two_runs_share_one_store(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, engines: Path, warm: Path
) -> None:
    """Two processes that use one store at once both end with the bytes of a single run."""
    alone_root = Path(shutil.copytree(engines, tmp_path / "alone" / "store"))
    run(photos, tiny_backbone, tmp_path / "alone.h5", alone_root, runtime={"engine": "onnx"})
    processes = [start(photos, tiny_backbone, tmp_path / f"{name}.h5", warm) for name in "ab"]
    for process in processes:
        process.communicate()
        assert process.returncode == 0

    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "alone.h5").read_bytes()


def test_a_full_disk_is_told_and_loses_nothing(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, engines: Path, warm: Path
) -> None:
    """On a full disk the run ends with one line that names the store; with space again it continues."""
    # No file may grow beyond 4 KiB: a full disk for a shard of 12 rows, not for what is smaller.
    limit = ("bash", "-c", 'ulimit -f 12; trap "" XFSZ; exec "$@"', "bash")
    with start(photos, tiny_backbone, tmp_path / "f.h5", warm, limit) as process:
        _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "cannot be written to (File too large)" in errors
    assert not (tmp_path / "f.h5").exists()

    assert run(photos, tiny_backbone, tmp_path / "f.h5", warm, runtime={"engine": "onnx"}).num_embedded > 0
    cold = Path(shutil.copytree(engines, tmp_path / "cold"))
    run(photos, tiny_backbone, tmp_path / "cold.h5", cold, runtime={"engine": "onnx"})
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "cold.h5").read_bytes()


def test_a_store_that_only_reads_gives_its_rows(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, warm: Path
) -> None:
    """A read-only store gives its rows; if it lacks images, the error comes before any is embedded."""
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root writes anywhere, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("runs as root, who may write anywhere, and there is no setpriv to give that up")
        prefix = ("setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override")
    done = run(photos, tiny_backbone, tmp_path / "full.h5", warm, runtime={"engine": "onnx"})
    folders = [warm, *(path for path in warm.rglob("*") if path.is_dir())]
    try:
        for folder in folders:
            folder.chmod(0o555)
        with start(photos, tiny_backbone, tmp_path / "f.h5", warm, prefix) as process:
            output, errors = process.communicate()
        assert (output, process.returncode) == ("0\n", 0), errors
        Image.new("RGB", (40, 40)).save(photos / "red" / "new.png")
        (warm.parent / "index.csv").unlink()
        with start(photos, tiny_backbone, tmp_path / "g.h5", warm, prefix) as process:
            _, errors = process.communicate()
    finally:
        for folder in folders:
            folder.chmod(0o755)

    assert done.num_embedded == 12
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "full.h5").read_bytes()
    assert process.returncode == 1
    assert "is read-only, and 1 images are not in it" in errors


def other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change a weight without changing the digest of the weights."""

    def build(params: BackboneParams) -> Backbone:
        backbone = build_backbone(params)
        next(backbone.network.parameters()).data.mul_(1.05)
        return backbone

    monkeypatch.setattr(backbones, "build_backbone", build)


def other_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resize with another filter than that of the spec."""
    pixels = Transform.pixels
    monkeypatch.setattr(Transform, "pixels", lambda self, image, _: pixels(self, image.resize((64, 64), 0)))


def other_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the EXIF orientation."""
    monkeypatch.setattr("headstart.imaging.decode.TURNS", {})


def other_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale the pixels slightly differently."""
    forward = EmbeddingNetwork.forward
    monkeypatch.setattr(
        EmbeddingNetwork, "forward", lambda self, pixels: forward(self, pixels.to(torch.float32) * 1.01)
    )


@pytest.mark.parametrize("change", [other_weights, other_transform, other_decoder, other_library])
def test_a_change_behind_the_spec_is_refused(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    """A change that is not in the fingerprint shows in the canary; the error names the packages and two remedies."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    change(monkeypatch)
    monkeypatch.setattr(packages, "version", lambda name: "99" if name == "pillow" else version(name))

    with pytest.raises(StoreError) as caught:
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")

    assert f"pillow {version('pillow')} -> 99" in str(caught.value)
    assert f"embed all images again (rm -r {tmp_path / 'store'}" in str(caught.value)


def test_a_store_needs_no_package_that_this_machine_does_not_use(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with a GPU may lack ONNX Runtime, and reuses what a machine with it has stored."""

    def lacks(name: str) -> str:
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return version(name)

    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    monkeypatch.setattr(packages, "version", lacks)
    assert run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store").num_embedded == 0
    assert run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "new").num_embedded == 12
    other_library(monkeypatch)
    with pytest.raises(StoreError, match=r"onnxruntime \S+ -> none"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")


def test_a_change_in_a_rare_kind_of_file_is_refused(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change in decoding palettes is noticed although no photo has one, because a picture of the canary has."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    monkeypatch.setattr(reader, "decode", lambda *given: _without_palette(images.decode(*given)))

    with pytest.raises(StoreError, match="the canary's pictures give other embeddings"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")


def _without_palette(picture: images.Picture) -> images.Picture:
    if "palette" not in picture.repairs:
        return picture
    return dataclasses.replace(picture, image=Image.new("RGB", picture.image.size))


def test_rows_that_are_wrong_are_found_by_the_audit(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong rows under a right canary are noticed, because a sample of the images is embedded again."""
    with monkeypatch.context() as patch:
        pixels = reader.Reader.pixels
        patch.setattr(reader.Reader, "pixels", lambda *given: pixels(*given) // 2)
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")

    with pytest.raises(StoreError, match="8 of the images give other embeddings"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")


def test_rows_made_under_another_canary_are_not_used(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cold: bytes
) -> None:
    """If a canary is deleted after the weights have changed, the rows made under it are not used."""
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
    """A network that gives NaN does not pass a canary, and does not leave one that everything would pass."""
    root = tmp_path / "store"
    if before:
        run(photos, tiny_backbone, tmp_path / "f.h5", root)

    def build(params: BackboneParams) -> Backbone:
        backbone = build_backbone(params)
        next(backbone.network.parameters()).data.fill_(np.nan)
        return backbone

    monkeypatch.setattr(backbones, "build_backbone", build)
    with pytest.raises(StoreError if before else FeatureFileError):
        run(photos, tiny_backbone, tmp_path / "f.h5", root)
    assert before or not list(root.glob("*/*"))


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to nothing", "link in a circle"])
def test_what_is_no_shard_stops_no_run(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, cold: bytes, kind: str
) -> None:
    """Where a pipe, a folder, a device or a broken link lies in place of a shard, its images are embedded again."""
    root = tmp_path / "store"
    run(photos, tiny_backbone, tmp_path / "f.h5", root)
    (shard,) = root.glob(f"*/{SHARD_PATTERN}")
    shard.unlink()
    put(shard, kind)
    assert [store.num_rows for store in summarize(root)] == [0]
    run(photos, tiny_backbone, tmp_path / "f.h5", root)

    assert (tmp_path / "f.h5").read_bytes() == cold
    collect_garbage(root, [], delete=True)
    assert [path.name for path in root.iterdir()] == ["lock"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link to nothing", "link in a circle"])
def test_what_is_no_canary_is_told(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, kind: str) -> None:
    """A pipe, a folder, a device or a broken link in place of a canary is an error with a remedy."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    (path,) = (tmp_path / "store").glob("*/canary.safetensors")
    path.unlink()
    put(path, kind)

    with pytest.raises(StoreError, match="is damaged .*Delete it; its rows are then embedded again"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    assert verify(tmp_path / "store") == [path]
    assert not os.path.lexists(path)


def put(path: Path, kind: str) -> None:
    """Put something that is no file at a path."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"device": Path("/dev/zero"), "link to nothing": Path("nothing"), "link in a circle": path}
        path.symlink_to(targets[kind])


@pytest.mark.parametrize("kind", ["truncated", "one bit", "foreign"])
def test_a_damaged_canary_is_told(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, kind: str) -> None:
    """A canary that has changed by one bit or more is an error with a remedy, not a stack trace."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    (path,) = (tmp_path / "store").glob("*/canary.safetensors")
    data = path.read_bytes()
    flipped = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
    path.write_bytes({"truncated": data[:-9], "one bit": flipped, "foreign": save({"x": np.ones(1)})}[kind])

    with pytest.raises(StoreError, match="is damaged .*Delete it; its rows are then embedded again"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    assert verify(tmp_path / "store") == [path]
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")


def test_of_two_canaries_the_first_stays(tmp_path: Path) -> None:
    """If two runs start in one empty store, the canary of the first is kept, and the second is compared with it."""
    first = np.ones((12, 1, 4), dtype=np.float32)

    def embed_late(_: Sequence[bytes]) -> dict[str, Any]:
        if not (tmp_path / canary.NAME).exists():  # the other run comes in between
            canary.check_canary({"last": tmp_path}, lambda __: {"last": first}, "float32")
        return {"last": first * 2}

    with pytest.raises(StoreError, match="the canary's pictures give other embeddings"):
        canary.check_canary({"last": tmp_path}, embed_late, "float32")
    assert canary.check_canary({"last": tmp_path}, lambda _: {"last": first}, "float32") == {
        "last": sha256_file(tmp_path / canary.NAME)
    }


def test_another_batch_or_thread_count_is_no_change(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path
) -> None:
    """Rows made with another batch or number of threads are reused, because rounding is within the tolerance."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    changed = {"batch": 7, "workers": 1}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done = run(photos, tiny_backbone, tmp_path / "g.h5", tmp_path / "store", runtime=changed)
    finally:
        torch.set_num_threads(before)

    assert done.num_embedded == 0


def test_the_store_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEADSTART_STORE comes before `runtime.store`, and relative paths start at DVC's main checkout."""
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
    """If the folder of the store cannot be made, the system's error names it, and no features file appears."""
    (tmp_path / "store").write_text("a file")

    with pytest.raises(OSError, match="store"):
        run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.usefixtures("small_shards")
def test_upkeep_shows_what_there_is(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """`stat` counts rows, shards and bytes by spec; `verify` names damaged files and sets them aside."""
    root = tmp_path / "store"
    run(photos, tiny_backbone, tmp_path / "f.h5", root)
    (summary,) = summarize(root)

    assert (summary.spec, summary.num_rows, summary.num_shards) == (
        "timm/test_resnet 64 px 1 views float32 last",
        12,
        3,
    )
    assert summary.num_bytes == sum(file.stat().st_size for file in summary.folder.iterdir())
    assert 0 <= summary.unused_days < 1
    assert verify(root) == []
    shard = next(summary.folder.glob(SHARD_PATTERN))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert verify(root) == [shard]
    assert verify(root) == []
    assert run(photos, tiny_backbone, tmp_path / "f.h5", root).num_embedded == 4
    path = summary.folder / canary.NAME
    path.write_bytes(path.read_bytes()[:-1])
    assert verify(root) == [path]
    assert run(photos, tiny_backbone, tmp_path / "f.h5", root).num_embedded == 0  # the new canary has the same bytes
    path = summary.folder / shards.SPEC_NAME
    for text in ("", "[]", path.read_text().replace("64", "65")):
        path.write_text(text)
        assert [store.spec for store in summarize(root)] == ["its spec.json is damaged"]
        assert verify(root) == [path]
        assert run(photos, tiny_backbone, tmp_path / "f.h5", root).num_embedded == 0
        assert summarize(root)[0].spec == summary.spec
    path.unlink()  # killed between the canary and this
    assert prune(root, summary.folder.name, None) == [summary.folder]


def test_pruning_deletes_whole_specs(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, warm: Path) -> None:
    """`prune` deletes stores and exported networks by fingerprint or by age, and keeps the others."""
    for px in (64, 96):
        run(photos, tiny_backbone, tmp_path / "f.h5", warm, transform={"px": px})
    first, second = summarize(warm)
    with pytest.raises(StoreError, match="no store's fingerprint begins with 'x'"):
        prune(warm, "x", None)
    assert prune(warm, first.folder.name[:12], None) == [first.folder]
    assert [summary.folder for summary in summarize(warm)] == [second.folder]
    assert prune(warm, None, 30) == []
    long_ago = time.time() - 40 * 86_400
    for path in (second.folder / shards.SPEC_NAME, *(warm / "engines").iterdir()):
        os.utime(path, (long_ago, long_ago))
    assert prune(warm, None, 30)[0] == second.folder
    assert summarize(warm) == []
    assert list((warm / "engines").iterdir()) == []


@pytest.mark.usefixtures("small_shards")
def test_garbage_is_what_no_index_lists(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """`gc` deletes the rows of photos that are gone and the files of killed runs; the other rows can be reused."""
    root = tmp_path / "store"
    run(photos, tiny_backbone, tmp_path / "f.h5", root)
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    (folder / ".x.tmp").write_bytes(b"half")
    (folder / "y.damaged").write_bytes(b"bad")
    for name in ("red/0.jpg", "blue/1.png"):
        (photos / name).unlink()
    write_rows(tmp_path / "index.csv", index_of(photos), IndexRow)
    assert list(collect_garbage(root, [tmp_path / "index.csv"], delete=False).values()) == [(2, 12)]
    assert sum(embedded_digests(root).values()) == 12
    assert list(collect_garbage(root, [tmp_path / "index.csv"], delete=True).values()) == [(2, 12)]
    assert sum(embedded_digests(root).values()) == 10
    assert not list(root.rglob("*.tmp")) + list(root.rglob("*.damaged"))
    assert run(photos, tiny_backbone, tmp_path / "f.h5", root).num_embedded == 0
    assert list(collect_garbage(root, [tmp_path / "index.csv"], delete=True).values()) == [(0, 10)]
    write_rows(tmp_path / "empty.csv", [], IndexRow)
    collect_garbage(root, [tmp_path / "empty.csv"], delete=True)
    assert summarize(root) == []


def test_upkeep_waits_for_no_one_and_breaks_no_run(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """While a run uses the store, deleting is an error; afterwards it is allowed."""
    root = tmp_path / "store"
    run(photos, tiny_backbone, tmp_path / "f.h5", root)
    with (
        in_use(root),
        in_use(root),
        pytest.raises(StoreError, match="a run is using it; nothing was changed"),
        alone(root),
    ):
        pass
    with alone(root):
        pass
    with pytest.raises(StoreError, match="there is no store"), alone(tmp_path / "none"):
        pass


@pytest.mark.slow
def test_the_upkeep_commands(photos: Path, tiny_backbone: BackboneParams, tmp_path: Path) -> None:
    """`stat`, `verify`, `prune` and `gc` work on the store that HEADSTART_STORE names."""
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    write_rows(tmp_path / "index.csv", index_of(photos)[:3], IndexRow)

    def upkeep(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "headstart", "store", *words],
            cwd=ROOT, env={**os.environ, "HEADSTART_STORE": str(tmp_path / "store")}, capture_output=True, text=True,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    assert "timm/test_resnet 64 px 1 views float32 last: 12 rows in 1 shards" in upkeep("stat")
    assert "no file is damaged" in upkeep("verify")
    assert "9 of 12 rows are not listed" in upkeep("gc", str(tmp_path / "index.csv"))
    assert "9 of 12 rows deleted" in upkeep("gc", "--delete", str(tmp_path / "index.csv"))
    assert "no store's fingerprint begins with 'zz'" in upkeep("prune", "--fingerprint", "zz")
    assert "1 deleted" in upkeep("prune", "--unused-days", "0")
    assert upkeep("stat") == ""


def dvc_project(folder: Path, features: Path, monkeypatch: pytest.MonkeyPatch, whole: Path | None = None) -> None:
    """Make a DVC project whose lock names a features file and whose cache holds it, and change to its folder."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=folder, check=True)
    md5 = hashlib.md5((features if whole is None else whole).read_bytes()).hexdigest()
    cached = folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True)
    shutil.copy(features, cached)
    out = {"path": "features/features.h5", "md5": md5}
    write_json(folder / "dvc.lock", {"stages": {"extract": {"outs": [out]}}})  # JSON is YAML
    monkeypatch.chdir(folder)


def test_an_empty_store_is_seeded_from_the_last_result(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cold: bytes
) -> None:
    """An empty store takes the rows of the features file in DVC's cache; only rows that it lacks are embedded."""
    (tmp_path / "project").mkdir()
    dvc_project(tmp_path / "project", tmp_path / "cold.h5", monkeypatch)

    assert run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "a").num_embedded == 0
    assert (tmp_path / "f.h5").read_bytes() == cold
    assert run(photos, tiny_backbone, tmp_path / "g.h5", tmp_path / "b", transform={"px": 96}).num_embedded == 12


@pytest.mark.parametrize("kind", ["other weights", "no photos", "damaged"])
def test_a_result_that_this_machine_would_not_give_seeds_nothing(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cold: bytes,
    capsys: pytest.CaptureFixture[str], kind: str,
) -> None:  # fmt: skip
    """A cached result that differs or cannot be compared is not used; the reason is printed, and the run goes on."""
    (tmp_path / "project").mkdir()
    path = tmp_path / "cold.h5"
    if kind == "damaged":
        (tmp_path / "rotten.h5").write_bytes(path.read_bytes()[:-1] + b"x")
    dvc_project(tmp_path / "project", tmp_path / "rotten.h5" if kind == "damaged" else path, monkeypatch, path)
    if kind == "no photos":
        rows, params = index_of(photos), extract_params(photos, tiny_backbone)
        photos.rename(tmp_path / "away")
        with pytest.raises(DataError, match="12 of the 12 images that are needed are missing"):
            extract(rows, params, tmp_path / "f.h5", tmp_path / "store")
        assert "is not used: none of its images is here to compare with" in capsys.readouterr().out
        return
    if kind == "other weights":
        other_weights(monkeypatch)
    assert run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store").num_embedded == 12
    assert ("is not used: " in capsys.readouterr().out) == (kind != "damaged")
    assert ((tmp_path / "f.h5").read_bytes() == cold) == (kind == "damaged")


def test_rows_come_back_from_any_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows from many shards, with other rows between them, are read in order, in blocks of any length."""
    random = np.random.default_rng(0)
    digests = np.sort(np.array([bytes(row).hex() for row in random.integers(0, 256, size=(200, 32), dtype=np.uint8)]))
    rows = random.normal(size=(200, 2, 5)).astype(np.float32)
    spec = {"layers": ["last"]}
    everything = Store(tmp_path / "s", spec, "00" * 32, digests.astype(DIGEST_DTYPE))
    for part in np.array_split(random.permutation(200), 7):
        everything.add(digests[part].tolist(), rows[part])
        everything.flush()
    wanted = np.sort(random.permutation(200)[:90])
    some = Store(tmp_path / "s", spec, "00" * 32, digests[wanted].astype(DIGEST_DTYPE))
    for block_bytes in (1, 1000, 2**20):
        monkeypatch.setattr(shards, "BLOCK_BYTES", block_bytes)
        assert np.array_equal(np.concatenate(list(some.blocks())), rows[wanted])
    assert not some.missing.any()
    assert Store(tmp_path / "s", spec, "11" * 32, digests.astype(DIGEST_DTYPE)).missing.all()


def test_stores_of_an_earlier_version_are_told_and_pruned(
    photos: Path, tiny_backbone: BackboneParams, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store whose spec names taps is not used; a line names the command that deletes it, which works."""
    old = tmp_path / "store" / ("0" * 64)
    write_json(old / "spec.json", {"taps": ["last"], "backbone": "x"})
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    told = capsys.readouterr().out
    assert "1 stores in " in told
    assert "python -m headstart store prune --outdated" in told

    assert prune_outdated(tmp_path / "store") == [old]
    assert not old.exists()
    run(photos, tiny_backbone, tmp_path / "f.h5", tmp_path / "store")
    assert "earlier version" not in capsys.readouterr().out


def test_the_canary_has_a_picture_of_every_format() -> None:
    """The canary has a picture of every format that needs no package more, so that a change of a decoder is noticed."""
    formats = {images.decode(data, 10**7).format for data in canary._make_pictures()}

    assert formats == set(format_names()) - {"HEIF"}
