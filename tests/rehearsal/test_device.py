"""The pretended device: it computes as the CPU does, refuses what a device refuses, and leaves torch as it was."""

import copy
import functools
import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from headstart.base.machine import choose_device
from tests.rehearsal.device import _common, _cuda, _mps, at_call, more_pictures_than, pretended
from tests.rehearsal.process_group import HangError
from tests.rehearsal.state import Device, RaceError


def network() -> nn.Sequential:
    """Return a small convolutional network with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


PICTURES = torch.linspace(-1, 1, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8)


def losses(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> list[float]:
    """Train the network for a few steps on a device, and return the losses."""
    module, target = network().to(name).to(memory_format=torch.channels_last), torch.tensor([0, 1, 2, 0]).to(name)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, **options)
    scaler = torch.amp.GradScaler(name, enabled=dtype == torch.float16)
    found = []
    for _ in range(3):
        with torch.autocast(name, dtype, enabled=dtype != torch.float32):
            logits = module(PICTURES.to(name)).float()
        loss = functional.cross_entropy(logits, target, label_smoothing=0.1)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_training_has_the_bits_of_the_cpu(kind: str) -> None:
    """Steps of an optimizer on the device give the CPU's losses to the bit, and low precision gives others."""
    expected = losses("cpu")
    with pretended(kind):
        assert losses(kind) == expected
        assert losses(kind, torch.bfloat16) != expected
        assert np.isclose(losses(kind, torch.float16)[0], expected[0], rtol=1e-3)  # the scaler skips the first steps
        assert np.allclose(losses(kind, fused=True), expected, atol=1e-6)


REFUSED: dict[str, tuple[type[Exception], Callable[[torch.Tensor], Any]]] = {
    "a sum of two devices": (RuntimeError, lambda x: x + x.cpu()),
    "a sum of two CUDA devices": (RuntimeError, lambda x: x + x.to("cuda:1")),
    "a device that does not exist": (RuntimeError, lambda _: torch.zeros(1, device="cuda:2")),
    "an index on the device for a tensor on the CPU": (RuntimeError, lambda x: x.cpu()[torch.zeros(1).long().cuda()]),
    "numpy": (TypeError, lambda x: x.numpy()),
    "an array": (TypeError, np.asarray),
    "pinning": (RuntimeError, lambda x: x.pin_memory()),
    "a loss of two devices": (RuntimeError, lambda x: functional.mse_loss(x, PICTURES)),
    "equality of two devices": (RuntimeError, lambda x: torch.equal(x, PICTURES)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_device_refuses_is_refused(what: str) -> None:
    """Mixes of devices, arrays of a device's tensor and devices that do not exist are errors, as with CUDA."""
    error, do = REFUSED[what]
    with pretended(count=2), pytest.raises(error):
        do(PICTURES.cuda())


@pytest.mark.parametrize(
    "do", [lambda x: x.double(), lambda x: x.sum(dtype=torch.float64), lambda x: x.cpu().double().to("mps")]
)
def test_mps_has_no_float64(mps: Device, do: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Every way to a float64 tensor on MPS is an error."""
    with pytest.raises(TypeError, match="MPS framework doesn't support float64"):
        do(PICTURES.to(mps.kind))


def test_copies_and_waits_are_logged(cuda: Device) -> None:
    """The log has each copy, with its size and whether it is pinned and blocks, and each wait of the host."""
    up = PICTURES.pin_memory().to("cuda", non_blocking=True)
    PICTURES.to("cuda", non_blocking=True)
    PICTURES.pin_memory().to("cuda", torch.float16, non_blocking=True)  # torch converts it in memory that is not pinned
    assert [(copy.num_bytes, copy.is_pinned, copy.is_blocking) for copy in cuda.log.up] == [
        (3072, True, False),
        (3072, False, True),
        (1536, False, True),
    ]
    assert cuda.log.waits == []
    up.sum().item()
    float(up[0, 0, 0, 0])
    assert up.mean() < 1
    up.cpu()
    up[up > 0]
    torch.cuda.synchronize()
    assert len(cuda.log.waits) == 6
    assert len(cuda.log.down) == 1


def test_numbers_that_are_not_there_yet_are_none(cuda: Device) -> None:
    """A copy down that does not block brings its numbers when the host has waited for its event or stream."""
    stream, event = torch.cuda.Stream(), torch.cuda.Event()
    pictures = PICTURES.cuda()
    with torch.cuda.stream(stream):
        early = pictures.to("cpu", non_blocking=True)
        event.record()
        late = pictures.to("cpu", non_blocking=True)
    torch.cuda.current_stream().synchronize()
    assert torch.cat([early, late]).isnan().all()
    event.synchronize()
    assert torch.equal(early, PICTURES)
    assert late.isnan().all()
    torch.cuda.current_stream().wait_stream(stream)
    pictures.sum().item()
    assert torch.equal(late, PICTURES)
    assert not cuda.in_flight


def test_a_pinned_buffer_must_not_change_during_its_copy(cuda: Device) -> None:
    """Overwriting pinned memory before the host waited for its copy is an error; afterwards it is none."""
    buffer = torch.empty(PICTURES.shape, pin_memory=True)
    copied = torch.cuda.Event()
    for pictures in (PICTURES, PICTURES * 2):
        buffer.copy_(pictures)
        there = buffer.cuda(non_blocking=True)
        copied.record()
        copied.synchronize()
        assert torch.equal(there.cpu(), pictures)
    buffer[:2].cuda(non_blocking=True)
    assert cuda.log.up[-1].is_pinned
    buffer.zero_()
    with pytest.raises(RaceError, match="overwritten"):
        torch.cuda.synchronize()


def test_streams_wait_for_copies_of_other_streams(cuda: Device) -> None:
    """A tensor that a copy stream brings is usable on another stream only after that one waits for the copy."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        there = PICTURES.pin_memory().cuda(non_blocking=True)
    with pytest.raises(RaceError, match="without waiting"):
        there.sum()
    torch.cuda.current_stream().wait_stream(stream)
    there.record_stream(torch.cuda.current_stream())
    assert there.sum().device == cuda.current


def test_modules_move_as_they_do_on_a_device(cuda: Device) -> None:
    """Parameters stay the same objects, tied or not; copies, saved states and gradients are on the right device."""
    module = network()
    before = list(module.parameters())
    module[2].weight = module[0].weight
    module.cuda()
    assert all(one is other for one, other in zip(before, module.parameters(), strict=True))
    assert module[2].weight is module[0].weight
    assert isinstance(module[0].weight, nn.Parameter)
    copied = copy.deepcopy(module)
    copied(PICTURES.cuda()).sum().backward()
    assert {parameter.grad.device for parameter in copied.parameters()} == {cuda.current}  # type: ignore[union-attr]
    assert module[0].weight.grad is None
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, map_location="cpu", weights_only=True)
    assert {tensor.device.type for tensor in saved.values()} == {"cpu"}
    copied.load_state_dict(saved)
    assert type(module.cpu()[0].weight) is nn.Parameter
    module(PICTURES)


def test_memory_can_run_out_at_a_chosen_moment(cuda: Device) -> None:
    """A failure is raised where it is asked for: at too many pictures, or at the n-th call of a function."""
    module = network().cuda()
    cuda.failures[:] = [more_pictures_than(2)]
    module(PICTURES[:2].cuda())
    with pytest.raises(torch.OutOfMemoryError):
        module(PICTURES.cuda())
    cuda.failures[:] = [at_call("relu", 2, RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))]
    module(PICTURES.cuda())
    with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
        module(PICTURES.cuda())
    torch.cuda.empty_cache()
    assert cuda.log.emptied == 1


def test_a_graph_computes_again(cuda: Device) -> None:
    """A replay gives the network's output for what its input holds now; a capture refuses to wait."""
    module, graph, given = network().eval().cuda(), torch.cuda.CUDAGraph(), torch.zeros_like(PICTURES, device="cuda")
    with torch.inference_mode():
        with torch.cuda.graph(graph):
            taken = module(given)
        given.copy_(PICTURES)
        graph.replay()
        assert torch.equal(taken.cpu(), network().eval()(PICTURES))
        with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(graph):
            module(given).cpu()
    assert cuda.log.replayed == 1
    assert not torch.cuda.is_current_stream_capturing()


def test_graphs_can_be_refused() -> None:
    """Where graphs are not supported, making one is an error of CUDA."""
    with pretended(graphs=False), pytest.raises(RuntimeError, match="not supported"):
        torch.cuda.CUDAGraph()


def test_each_thread_has_its_device_and_sees_the_tensors(cuda: Device) -> None:
    """Threads copy to the device too. A thread starts with the first device, whatever another one chose."""
    found: list[str] = []

    def work() -> None:
        found.append(str(PICTURES.to("cuda").device))

    cuda.count = 2
    torch.cuda.set_device(1)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["cuda:0"]
    assert str(torch.zeros(1, device="cuda").device) == "cuda:1"
    with torch.cuda.device(0):
        assert torch.cuda.current_device() == 0
    assert cuda.log.chosen == [1]


def test_a_thread_may_outlive_the_device() -> None:
    """A thread that ends after the device computes on, with tensors of the device that is gone, too."""
    found, made, gone = list[float](), threading.Event(), threading.Event()

    def work() -> None:
        there = PICTURES.cuda()
        made.set()
        gone.wait()
        found.append(float(there.sum() + torch.zeros(1)))

    with pretended():
        thread = threading.Thread(target=work)
        thread.start()
        made.wait()
    gone.set()
    thread.join()
    assert found == [float(PICTURES.sum())]


@pytest.mark.parametrize(("kind", "expected"), [("cuda", "cuda:0"), ("mps", "mps")])
def test_the_code_believes_in_the_device(kind: str, expected: str) -> None:
    """`auto` chooses the pretended device, and bfloat16 depends on its compute capability."""
    with pretended(kind, capability=(7, 5)):
        assert choose_device("auto") == expected
        if kind == "cuda":
            assert torch.cuda.is_bf16_supported()
            assert not torch.cuda.is_bf16_supported(including_emulation=False)
            assert torch.cuda.mem_get_info()[1] > 0
    assert choose_device("auto") == "cpu"


def test_nccl_takes_tensors_of_the_device_only(cuda: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of one process sums tensors of the device, refuses others, and is not destroyed after an error."""
    for name, value in {"MASTER_ADDR": "localhost", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    torch.distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
    try:
        torch.distributed.all_reduce(torch.ones(2, device="cuda"))
        with pytest.raises(RuntimeError, match="No backend type associated"):
            torch.distributed.all_reduce(torch.ones(2))
        with pytest.raises(HangError):
            try:
                raise ValueError("an error of this process")
            finally:
                torch.distributed.destroy_process_group()
    finally:
        torch.distributed.destroy_process_group()
    assert cuda.log.backends == ["nccl"]


def _state() -> dict[str, Any]:
    """Return all that a pretended device replaces or the code for a device sets."""
    device = Device("cuda", 1)
    names = {*_common(device), *_cuda(device, (9, 0), graphs=True), *_mps(device)}
    values = {
        name: functools.reduce(getattr, name.split(".")[1:], torch) for name in names if name.startswith("torch.")
    }
    distributed = {name: getattr(torch.distributed, name) for name in ("all_reduce", "init_process_group")}
    return {
        **values,
        **distributed,
        "thread": threading.Thread.run,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "mode": torch.overrides._get_current_function_mode(),
    }


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_torch_is_left_as_it_was(kind: str) -> None:
    """After the block, also if an error ends it, every function and setting is the one from before."""
    before = _state()
    with pytest.raises(ZeroDivisionError), pretended(kind):
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.allow_tf32 = True
        assert _state() != before
        raise ZeroDivisionError
    assert _state() == before
    assert torch.zeros(1).device.type == "cpu"
    assert losses("cpu") == losses("cpu")
