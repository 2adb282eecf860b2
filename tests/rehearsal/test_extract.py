"""Extraction on a pretended device: the CPU's embeddings, one store for all, few waits, too little memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from headstart.artifacts.features import open_features
from headstart.backbone.params import BackboneParams
from headstart.base.errors import BackboneError
from headstart.base.machine import is_strictly_repeatable
from headstart.imaging.staging import staging_bytes
from stages.extract.extraction import Extraction, extract
from tests.conftest import extract_params, index_of, write_photos
from tests.rehearsal.device import at_call, live_bytes, more_pictures_than, pretended
from tests.rehearsal.state import Device, Failure

OUT_OF_MEMORY = {
    "cuDNN": "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuBLAS": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "MPS": "MPS backend out of memory (MPS allocated: 17.12 GB, other allocations: 384.00 KB)",
}


class Run:
    """Extracts the embeddings of a folder of photos, each time by a new process of the pipeline.

    Args:
        folder: Folder of photos, stores and features files.
        backbone: Params of the backbone.
    """

    def __init__(self, folder: Path, backbone: BackboneParams) -> None:
        self.folder, self._backbone = folder, backbone
        write_photos(folder / "photos", per_class=8)
        self._index = index_of(folder / "photos")

    def __call__(
        self, name: str, device: str, num: int = 24, precision: str = "float32", *, views: int = 1, **runtime: Any
    ) -> Extraction:
        """Extract into a store, the first photos only. The features file has the name of the store."""
        params = extract_params(
            self.folder / "photos",
            self._backbone,
            extract={"precision": precision, "views": views},
            runtime={"device": device} | runtime,
        )
        return extract(self._index[:num], params, self.folder / f"{name}.h5", self.folder / name)

    def bytes_of(self, name: str) -> bytes:
        """Return the bytes of a features file."""
        return (self.folder / f"{name}.h5").read_bytes()


@pytest.fixture
def run(tmp_path: Path, tiny_backbone: BackboneParams, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that extracts, where there is no dvc.lock that knows embeddings."""
    monkeypatch.chdir(tmp_path)
    return Run(tmp_path, tiny_backbone)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_gpu_gives_the_bytes_of_the_cpu(run: Run, kind: str, precision: str) -> None:
    """The features file of a GPU is that of the CPU by the torch engine, bit for bit: float16 is only how it stores."""
    run("cpu", "cpu", 24, precision)
    with pretended(kind):
        done = run("gpu", "auto", 24, precision, engine="auto")
    assert (done.device, done.engine) == (torch.device(done.device).type + ":0" * (kind == "cuda"), "torch")
    assert run.bytes_of("gpu") == run.bytes_of("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("first", ["cpu", "cuda"])
def test_a_cpu_and_a_gpu_share_a_store(run: Run, precision: str, first: str) -> None:
    """What one of them stored, the other reuses, and it adds the rest, in float32 and in float16."""
    second = {"cpu": "cuda", "cuda": "cpu"}[first]
    with pretended("cuda"):
        assert run("shared", first, 12, precision).num_embedded == 12
        assert run("shared", second, 24, precision).num_embedded == 12
        assert run("shared", first, 24, precision).num_embedded == 0


@pytest.mark.slow
def test_a_pass_waits_once(run: Run, cuda: Device) -> None:
    """Each pass of the network waits once for its embeddings, and its pictures go up beside the pass before."""
    waits, passes = [], []
    for name, num in (("few", 8), ("many", 24)):
        before = len(cuda.log.waits), len(cuda.log.pictures_up)
        run(name, "cuda", num, batch=2)
        waits.append(len(cuda.log.waits) - before[0])
        passes.append(len(cuda.log.pictures_up) - before[1])
    assert passes[1] - passes[0] == 8
    assert waits[1] - waits[0] <= 8
    assert [copy for copy in cuda.log.pictures_up if copy.is_blocking] == []


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", *OUT_OF_MEMORY])
def test_out_of_memory_halves_the_batch(
    run: Run, cuda: Device, capsys: pytest.CaptureFixture[str], library: str
) -> None:
    """Out of memory, of whatever library, the batch is halved; the rows stay the same, and no memory is kept."""
    error = None if library == "torch" else RuntimeError(OUT_OF_MEMORY[library])
    run("all", "cuda", batch=8)
    held = live_bytes()
    cuda.failures.append(more_pictures_than(4, error))
    run("less", "cuda", batch=8)
    said = "".join(capsys.readouterr())
    assert "out of memory with 8 pictures at once; continuing with 4" in said
    assert run.bytes_of("less") == run.bytes_of("all")
    assert live_bytes() <= held


def test_an_operation_without_a_repeatable_kernel_is_named(
    run: Run, cuda: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frozen passes are strictly repeatable until torch refuses an operation; a line names it, and the rows stay."""

    def refuse(name: str, _: Sequence[torch.Tensor]) -> Exception | None:
        refused = name == "conv2d" and is_strictly_repeatable()
        return RuntimeError("some_kernel_cuda does not have a deterministic implementation, but") if refused else None

    run("plain", "cuda", 4)
    assert is_strictly_repeatable()
    assert "repeatable" not in "".join(capsys.readouterr())
    cuda.failures.append(refuse)
    run("refused", "cuda", 4)
    assert capsys.readouterr().err.count("some_kernel_cuda has no repeatable kernel") == 1
    assert run.bytes_of("refused") == run.bytes_of("plain")


def test_too_little_memory_is_a_clear_error(run: Run, cuda: Device) -> None:
    """Memory for less than two pictures, or for less than the network, is an error that says so."""
    cuda.failures[:] = [more_pictures_than(1)]
    with pytest.raises(BackboneError, match="out of memory even for two pictures"):
        run("gpu", "cuda")
    cuda.failures[:] = [lambda name, _: torch.OutOfMemoryError("CUDA out of memory.") if name == "to" else None]
    with pytest.raises(BackboneError, match="memory does not hold the network"):
        run("gpu", "cuda")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_gpu_resizes_to_the_same_bytes(
    run: Run, cuda: Device, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    """With the resize on the GPU the features file and the store stay the same, and Pillow resizes no photo."""
    run("pillow", "cuda", 24, precision)
    with mock.patch("headstart.imaging.reader.Reader.pixels", side_effect=AssertionError):
        assert run("gpu", "cuda", 24, precision, gpu_resize=True).num_embedded == 24
    assert cuda.log.computed["index_select"]
    assert run.bytes_of("gpu") == run.bytes_of("pillow")
    assert run("pillow", "cuda", 24, precision, gpu_resize=True).num_embedded == 0
    assert "gpu_resize" not in "".join(capsys.readouterr())


@pytest.mark.slow
def test_a_batch_that_is_resized_there_goes_up_at_once(run: Run, cuda: Device) -> None:
    """Each pass costs one wait and one pinned copy, which is no larger than the space of its pictures."""
    waits, copies = [], []
    for name, num in (("few", 8), ("many", 24)):
        before = len(cuda.log.waits), len(cuda.log.up)
        run(name, "cuda", num, batch=2, gpu_resize=True)
        waits.append(len(cuda.log.waits) - before[0])
        copies.append([copy for copy in cuda.log.up[before[1] :] if copy.dtype == torch.uint8])
    assert waits[1] - waits[0] <= 8
    assert len(copies[1]) - len(copies[0]) == 8
    assert not [copy for copy in copies[1] if copy.is_blocking or not copy.is_pinned]
    staged = [copy.num_bytes for copy in copies[1] if len(copy.shape) == 1]
    assert len(staged) == 12 + 1  # one to compare with Pillow
    assert max(staged[1:]) <= 2 * staging_bytes(64)


@pytest.mark.slow
def test_out_of_memory_halves_a_batch_that_is_resized(run: Run, cuda: Device) -> None:
    """Out of memory, in the resize or in the pass, the batch is halved, and the rows stay the same."""
    run("all", "cuda", batch=8)
    cuda.failures.append(more_pictures_than(4))
    run("less", "cuda", batch=8, gpu_resize=True)
    cuda.failures[:] = [at_call("index_select", 20)]
    run("once", "cuda", batch=8, gpu_resize=True)
    assert run.bytes_of("less") == run.bytes_of("once") == run.bytes_of("all")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "device", "runtime", "failure", "reason"),
    [
        ("cuda", "cpu", {}, None, "only torch on a CUDA device can resize"),
        ("mps", "mps", {}, None, "only torch on a CUDA device can resize"),
        ("cuda", "cuda", {"memory": 2**26, "batch": 2048}, None, "the pictures that wait would need more than half"),
        ("cuda", "cuda", {}, at_call("index_select", 2), "CUDA out of memory"),
        ("cuda", "cuda", {}, "other pixels", "the pixels of this GPU differ from those of Pillow"),
    ],
    ids=["cpu", "mps", "little memory", "out of memory", "other pixels"],
)
def test_pillow_resizes_where_the_gpu_cannot(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    device: str,
    runtime: dict[str, Any],
    failure: Failure | str | None,
    reason: str,
) -> None:
    """Without CUDA, with little memory, or if a GPU gives other pixels, a line says why, and the bytes are the same."""
    run("plain", "cpu", 2, batch=runtime.get("batch", 4))
    with pretended(kind) as pretended_device:
        if isinstance(failure, str):
            monkeypatch.setattr("headstart.engines.gpu_resize._HALF", 0)
        elif failure is not None:
            pretended_device.failures.append(failure)
        run("resized", device, 2, gpu_resize=True, **runtime)
    said = "".join(capsys.readouterr())
    assert said.count(f"runtime.gpu_resize: the CPU resizes, to the same pixels: {reason}") == 1
    assert run.bytes_of("resized") == run.bytes_of("plain")


@pytest.mark.slow
def test_several_views_are_resized_by_pillow(run: Run, cuda: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the centre crop is resized on a GPU; with more views a line says so, and the GPU embeds as before."""
    run("views", "cuda", 2, views=2, gpu_resize=True)
    assert "the CPU resizes, to the same pixels: extract.views is 2" in capsys.readouterr().out
    assert not cuda.log.computed["index_select"]


@pytest.mark.slow
def test_the_features_of_a_gpu_can_be_read_anywhere(run: Run) -> None:
    """The features file says nothing of the device, so its spec is that of a CPU."""
    with pretended("cuda"):
        run("gpu", "cuda", 4)
    run("cpu", "cpu", 4)
    with open_features(run.folder / "gpu.h5") as mine, open_features(run.folder / "cpu.h5") as theirs:
        assert mine.spec == theirs.spec
