"""The torch engine on a GPU: float32, one thread, one wait for each pass, less at once where memory is short."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.base.errors import BackboneError, ParamsError
from headstart.engines.torch_engine import TorchEngine, default_batch
from headstart.imaging.clock import Clock
from tests.rehearsal.device import Graph, more_pictures_than, pretended
from tests.rehearsal.state import Device


class Small(nn.Module):
    """A network of one convolution. It notes the number of pictures and the thread of each pass."""

    layers = ("last",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3)
        self.dims = {"last": 5}
        self.passes: list[int] = []
        self.threads: set[int] = set()

    def forward(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor]:
        """Return float32 (B, 5)."""
        self.passes.append(len(pixels_BHWC))
        self.threads.add(threading.get_ident())
        return (self.conv(pixels_BHWC.permute(0, 3, 1, 2).float() / 255).mean((2, 3)),)


def make_engine(device: str, batch: int | None = 4, precision: str = "float32") -> tuple[TorchEngine, Small]:
    """Return an engine and its network."""
    network = Small().eval()
    return TorchEngine(network, device, batch, precision, Clock()), network  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    """Thirty pictures."""
    return np.random.default_rng(0).integers(0, 256, size=(30, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def expected(pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """Their embeddings by the CPU."""
    return make_engine("cpu")[0].embed(pixels)["last"]


@pytest.fixture
def cuda() -> Iterator[Device]:
    """A pretended CUDA device."""
    with pretended("cuda", count=2) as device:
        yield device


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_float16_is_for_storage_only(kind: str, pixels: NDArray[np.uint8], expected: NDArray[Any]) -> None:
    """A GPU gives the CPU's float32 numbers, rounded, so that a store of float16 can be shared."""
    with pretended(kind):
        found = make_engine(kind, precision="float16")[0].embed(pixels)["last"]
    assert found.dtype == np.float16
    assert np.array_equal(found, expected.astype(np.float16))


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_every_pass_on_a_gpu_runs_in_the_same_thread(device: str, pixels: NDArray[np.uint8]) -> None:
    """Whoever asks: cuDNN would plan its kernels anew for each thread."""
    with pretended(device.split(":", maxsplit=1)[0], count=2):
        engine, network = make_engine(device)
        engine.embed(pixels[:2])
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(engine.embed, [pixels] * 3))
    assert len(network.threads) == 1
    assert threading.get_ident() not in network.threads


def test_nothing_waits_for_a_pass_that_was_started(
    cuda: Device, pixels: NDArray[np.uint8], expected: NDArray[Any]
) -> None:
    """Two batches are started at once from pinned memory, and each is waited for once, when it is asked for."""
    engine, network = make_engine("cuda:0")
    buffers = [engine.new_buffer((4, 8, 8, 3)) for _ in range(2)]
    for buffer, start in zip(buffers, (0, 4), strict=True):
        buffer[:] = pixels[start : start + 4]
    cuda.log.waits.clear()  # those for the weights
    started = [engine.start(buffer) for buffer in buffers]
    engine._thread.submit(int).result()  # type: ignore[union-attr]  # both have been started by then
    assert network.passes == [4, 4]
    assert cuda.log.waits == []

    for number, wait in enumerate(started):
        assert np.array_equal(wait()["last"], expected[4 * number : 4 * number + 4])
        assert len(cuda.log.waits) == number + 1
    assert [copy.is_blocking for copy in cuda.log.pictures_up] == [False, False]


def test_passes_are_replayed_as_a_graph(cuda: Device, pixels: NDArray[np.uint8], expected: NDArray[Any]) -> None:
    """After a few passes of one size the network is not called any more, and the bits stay, also of a part batch."""
    engine, network = make_engine("cuda:0")
    assert np.array_equal(engine.embed(pixels)["last"], expected)
    num = len(network.passes)
    for few in (30, 3, 1):
        assert np.array_equal(engine.embed(pixels[:few])["last"], expected[:few])
    assert len(network.passes) == num < 8
    assert cuda.log.replayed > 8


@pytest.mark.usefixtures("cuda")
def test_passes_of_another_size_get_another_graph(pixels: NDArray[np.uint8], expected: NDArray[Any]) -> None:
    """As after a lack of memory: the graph of the former size is given up with its memory."""
    engine, network = make_engine("cuda:0")
    engine.embed(pixels)
    former = engine._cuda_passes._network._graph  # type: ignore[union-attr]
    engine.batch = 2
    for _ in range(2):
        assert np.allclose(engine.embed(pixels)["last"], expected, atol=1e-6)
    assert engine._cuda_passes._network._graph not in (None, former)  # type: ignore[union-attr]
    assert network.passes[-1] == 2


def test_a_few_passes_get_no_graph(cuda: Device, pixels: NDArray[np.uint8]) -> None:
    """To capture one takes as long as a few passes."""
    engine, network = make_engine("cuda:0")
    engine.embed(pixels[:9])
    assert (network.passes, cuda.log.replayed) == ([4, 4, 4], 0)


def test_where_a_graph_cannot_be_captured_passes_stay_eager(
    pixels: NDArray[np.uint8], expected: NDArray[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason is said once, and on the standard error, because the standard output may hold predictions."""
    with pretended("cuda", graphs=False) as device:
        engine, _ = make_engine("cuda:0")
        for _ in range(3):
            assert np.array_equal(engine.embed(pixels)["last"], expected)
    assert device.log.replayed == 0
    said = capsys.readouterr()
    assert said.err.count("passes run without a CUDA graph, which is slower: CUDA error: operation not supported") == 1
    assert said.out == ""


def test_a_graph_with_other_bits_is_not_used(
    cuda: Device,
    pixels: NDArray[np.uint8],
    expected: NDArray[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first replay is compared with an eager pass. If one bit differs, passes stay eager."""
    replay = Graph.replay

    def replay_wrongly(graph: Graph) -> None:
        replay(graph)
        graph.calls[-1][-1].mul_(1 + 1e-6)

    monkeypatch.setattr(Graph, "replay", replay_wrongly)
    engine, _ = make_engine("cuda:0")
    for _ in range(2):
        assert np.array_equal(engine.embed(pixels)["last"], expected)
    assert cuda.log.replayed == 1
    assert capsys.readouterr().err.count("without a CUDA graph, which is slower: it gives other bits") == 1


@pytest.mark.parametrize(
    "words",
    [
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "MPS backend out of memory (MPS allocated: 17.12 GB)",
    ],
)
@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_library_that_is_out_of_memory_halves_the_batch(
    kind: str, words: str, pixels: NDArray[np.uint8], expected: NDArray[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Some of them raise a plain RuntimeError. The rows stay the same."""
    with pretended(kind) as device:
        engine, _ = make_engine(kind, batch=16)
        engine.embed(pixels)
        device.failures.append(more_pictures_than(5, RuntimeError(words)))
        assert np.array_equal(engine.embed(pixels)["last"], expected)
    assert engine.batch == 4
    assert capsys.readouterr().err.count("out of memory with") == 2


def test_other_errors_of_a_pass_are_passed_on(cuda: Device, pixels: NDArray[np.uint8]) -> None:
    """They halve nothing."""
    engine, _ = make_engine("cuda:0")
    cuda.failures.append(more_pictures_than(0, RuntimeError("CUDA error: unspecified launch failure")))
    with pytest.raises(RuntimeError, match="launch failure"):
        engine.embed(pixels)
    assert engine.batch == 4


def test_a_closed_engine_gives_back_the_memory(cuda: Device, pixels: NDArray[np.uint8]) -> None:
    """Other processes may need it."""
    engine, _ = make_engine("cuda:0")
    engine.embed(pixels)
    engine.close()
    assert cuda.log.emptied
    assert not any(isinstance(value, nn.Module) for value in vars(engine).values())


@pytest.mark.parametrize("device", ["xpu", "hpu", "vulkan"])
def test_a_device_that_torch_cannot_use_is_an_error(device: str) -> None:
    """A device for which this torch was not built is a mistake in the params, not a stack trace."""
    with pytest.raises(ParamsError, match=f"found '{device}', which torch cannot use here: "):
        make_engine(device, batch=None)


def test_a_network_too_large_for_the_device_is_an_error(cuda: Device) -> None:
    """Also if a library reports it by a plain RuntimeError."""
    cuda.failures.append(lambda name, _: RuntimeError("CUDA error: out of memory") if name == "to" else None)
    with pytest.raises(BackboneError, match="memory does not hold the network"):
        make_engine("cuda:0")


def test_large_pictures_get_small_batches_on_a_gpu() -> None:
    """Pictures of 1024 px take seven times the memory of 384 px. On a CPU the batch, and so the bits, stay."""
    assert [default_batch("cuda:0", px) for px in (64, 224, 384, 1024, 4096)] == [128, 128, 128, 18, 2]
    assert [default_batch("cpu", px) for px in (64, 1024)] == [32, 32]
    assert default_batch("xpu:1", 224) == 32
