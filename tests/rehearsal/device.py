"""A pretended device: torch believes in a CUDA or MPS device, although the machine has none.

    with pretended("cuda", count=2) as device:
        network.to("cuda:1")
        assert device.log.waits == []

Numbers are those of the CPU, to the bit, because the CPU computes them. What the device adds is its rules
(`tensor.py`), its copies in flight, streams and events (`state.py`), and a log of what it was asked for (`log.py`).

What it cannot show: speed, the size of its memory, kernels that differ from those of the CPU, their order on several
streams apart from copies, and work that torch does in C++ alone. A function of torch is one call, so what a composite
function of Python does inside, such as a wait, is not seen. Random numbers are those of the CPU's generator.
"""

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # torch imports it at the first step of an optimizer, and looks for devices meanwhile
from torch.utils._pytree import tree_leaves

from tests.rehearsal import process_group
from tests.rehearsal.state import Device, Event, Failure, Stream, _active
from tests.rehearsal.tensor import DeviceTensor, Mode, parse_device, plain

_MEMORY = 80 * 2**30
_autocast, _run_thread = torch.autocast, threading.Thread.run
_group_tensors = torch._C._group_tensors_by_device_and_dtype


@contextmanager
def pretended(
    kind: str = "cuda", *, count: int = 1, capability: tuple[int, int] = (9, 0), graphs: bool = True
) -> Iterator[Device]:
    """Let torch believe in a device inside a `with` block, and give what it was asked for.

    Args:
        kind: `cuda` or `mps`.
        count: Number of CUDA devices.
        capability: Compute capability. From 8.0 on bfloat16 is fast; before, it is emulated.
        graphs: Whether graphs can be captured. Otherwise CUDA refuses.
    """
    assert not _active, "one device at a time"
    device = Device(kind, count)
    patches = _common(device) | (_cuda(device, capability, graphs=graphs) if kind == "cuda" else _mps(device))
    with ExitStack() as stack:
        stack.callback(_restore_settings, _settings())
        for name, value in patches.items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(process_group.pretended(device))
        stack.enter_context(mock.patch.dict(os.environ))
        _active.append(device)
        stack.callback(_active.clear)
        stack.enter_context(Mode())
        yield device
        device.finish(device.in_flight)


def more_pictures_than(num: int, error: Exception | None = None) -> Failure:
    """Return a failure of every convolution of more than so many pictures: the device is out of memory."""

    def fail(name: str, tensors: Sequence[torch.Tensor]) -> Exception | None:
        return _new(error) if name == "conv2d" and len(tensors[0]) > num else None

    return fail


def at_call(name: str, number: int, error: Exception | None = None) -> Failure:
    """Return a failure of one call, counted from 1, of one of torch's functions: the device is out of memory."""
    done = 0

    def fail(called: str, _: Sequence[torch.Tensor]) -> Exception | None:
        nonlocal done
        done += called == name
        return _new(error) if called == name and done == number else None

    return fail


def _new(error: Exception | None) -> Exception:
    """Return a copy of an error, because an error that was raised holds the stack; out of memory by default."""
    return torch.OutOfMemoryError("CUDA out of memory. (pretended)") if error is None else type(error)(*error.args)


def waits_at(device: Device, *names: str) -> list[int]:
    """Return a list that gets the number of waits so far at every call of some of torch's functions from now on."""
    counts: list[int] = []

    def count(name: str, _: Sequence[torch.Tensor]) -> None:
        if name in names:
            counts.append(len(device.log.waits))

    device.failures.append(count)
    return counts


def live_bytes() -> int:
    """Return the bytes of all tensors of the device that Python still holds."""
    gc.collect()
    with plain():
        storages = [one.untyped_storage() for one in gc.get_objects() if type(one) is DeviceTensor]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class Graph:
    """A graph, as `torch.cuda.CUDAGraph`. A replay computes anew into the tensors that the capture made."""

    def __init__(self, **_: Any) -> None:
        self.calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def replay(self) -> None:
        """Compute again."""
        _active[-1].log.replayed += 1
        for func, args, kwargs, out in self.calls:
            with plain(), torch.no_grad():
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)

    def reset(self) -> None:
        """Forget what was captured."""
        self.calls = []

    def pool(self) -> tuple[int, int]:
        """Return the name of the memory pool."""
        return 0, 1


def _common(device: Device) -> dict[str, Any]:
    """Return what a device of any kind needs, by the name of what is replaced."""

    class Autocast(_autocast):  # type: ignore[misc, valid-type]
        """Casts as the CPU does."""

        def __init__(self, device_type: str, dtype: torch.dtype | None = None, *args: Any, **kwargs: Any) -> None:
            if device_type == device.kind:
                device_type, dtype = "cpu", dtype or torch.float16
            super().__init__(device_type, dtype, *args, **kwargs)

    def run_in_mode(thread: threading.Thread) -> None:
        with Mode():
            _run_thread(thread)

    def group_tensors(*args: Any) -> dict[Any, Any]:
        grouped = _group_tensors(*args)
        first = {key: next(one for one in lists[0] if one is not None) for key, (lists, _) in grouped.items()}
        return {(first[key].device, key[1]): value for key, value in grouped.items()}

    return {
        "headstart.base.machine._GPU_NODES": ("/",),
        "threading.Thread.run": run_in_mode,
        "torch.autocast": Autocast,
        "torch.amp.autocast": Autocast,
        "torch.amp.autocast_mode.autocast": Autocast,
        "torch._C._group_tensors_by_device_and_dtype": group_tensors,
        "torch.accelerator.is_available": lambda: True,
        "torch.accelerator.current_accelerator": lambda *_, **__: torch.device(device.kind),
        "torch.accelerator.device_count": lambda: device.count,
        "torch.accelerator.current_device_index": lambda: device.current.index,
        "torch.accelerator.current_stream": lambda *_: device.current_stream,
        "torch.accelerator.synchronize": lambda *_: device.wait(device.in_flight),
    }


def _cuda(device: Device, capability: tuple[int, int], *, graphs: bool) -> dict[str, Any]:
    """Return what a CUDA device needs, by the name of what is replaced."""

    @contextmanager
    def stream(chosen: Stream | None) -> Iterator[None]:
        before = device.current_stream
        device.current_stream = chosen or before
        try:
            yield
        finally:
            device.current_stream = before

    @contextmanager
    def choose(number: Any) -> Iterator[None]:
        before = device.current.index
        device.choose(_number(device, number))
        try:
            yield
        finally:
            device.choose(before)

    @contextmanager
    def capture(graph: Graph, *, stream: Stream | None = None, **_: Any) -> Iterator[None]:
        device.wait(device.in_flight)
        device.captured = []
        try:
            with torch.cuda.stream(stream or Stream()):  # type: ignore[arg-type]
                yield
            graph.calls = device.captured
        finally:
            device.captured = None

    def make_graph(*_: Any, **__: Any) -> Graph:
        if not graphs:
            raise RuntimeError("CUDA error: operation not supported")
        return Graph()

    def set_device(number: Any) -> None:
        device.choose(_number(device, number))
        device.log.chosen.append(device.current.index)

    def empty_cache() -> None:
        device.log.emptied += 1

    properties = SimpleNamespace(
        name="Pretended", major=capability[0], minor=capability[1], total_memory=_MEMORY, multi_processor_count=100
    )
    return {
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.is_initialized": lambda: True,
        "torch.cuda.init": lambda: None,
        "torch.cuda._lazy_init": lambda: None,
        "torch.cuda._lazy_call": lambda *_, **__: None,
        "torch.cuda.device_count": lambda: device.count,
        "torch.cuda.current_device": lambda: device.current.index,
        "torch.cuda.set_device": set_device,
        "torch.cuda.device": choose,
        "torch.cuda.get_device_properties": lambda *_: properties,
        "torch.cuda.get_device_name": lambda *_: properties.name,
        "torch.cuda.get_device_capability": lambda *_: capability,
        "torch.cuda.is_bf16_supported": lambda including_emulation=True: including_emulation or capability >= (8, 0),
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.cuda.mem_get_info": lambda *_: (_MEMORY, _MEMORY),
        "torch.cuda.memory_allocated": lambda *_: 0,
        "torch.cuda.max_memory_allocated": lambda *_: 0,
        "torch.cuda.reset_peak_memory_stats": lambda *_: None,
        "torch.cuda.empty_cache": empty_cache,
        "torch.cuda.synchronize": lambda *_: device.wait(device.in_flight),
        "torch.cuda.get_rng_state": lambda *_: torch.get_rng_state(),
        "torch.cuda.set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "torch.cuda.manual_seed": lambda *_: None,
        "torch.cuda.manual_seed_all": lambda *_: None,
        "torch.Tensor.record_stream": lambda *_: None,
        "torch.cuda.Stream": Stream,
        "torch.cuda.Event": Event,
        "torch.cuda.stream": stream,
        "torch.cuda.set_stream": lambda chosen: setattr(device, "current_stream", chosen),
        "torch.cuda.current_stream": lambda *_: device.current_stream,
        "torch.cuda.default_stream": lambda *_: device.default_stream,
        "torch.cuda.CUDAGraph": make_graph,
        "torch.cuda.graph": capture,
        "torch.cuda.graph_pool_handle": lambda: (0, 1),
        "torch.cuda.is_current_stream_capturing": lambda: device.captured is not None,
    }


def _mps(device: Device) -> dict[str, Any]:
    """Return what an MPS device needs, by the name of what is replaced."""

    def empty_cache() -> None:
        device.log.emptied += 1

    return {
        "torch.cuda.is_available": lambda: False,
        "torch.cuda.device_count": lambda: 0,
        "torch.backends.mps.is_available": lambda: True,
        "torch.backends.mps.is_built": lambda: True,
        "torch.mps.synchronize": lambda: device.wait(device.in_flight),
        "torch.mps.empty_cache": empty_cache,
        "torch.mps.get_rng_state": lambda *_: torch.get_rng_state(),
        "torch.mps.set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "torch.mps.manual_seed": lambda *_: None,
    }


def _number(device: Device, value: Any) -> int:
    named = parse_device(value)
    return device.current.index if named is None else named.index


def _settings() -> dict[str, Any]:
    """Return torch's settings that code for a device changes."""
    return {
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32),
        "matmul": torch.backends.cuda.matmul.allow_tf32,
    }


def _restore_settings(before: dict[str, Any]) -> None:
    enabled, warn_only = before["deterministic"]
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = before["fill"]  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = before["cudnn"]
    torch.backends.cuda.matmul.allow_tf32 = before["matmul"]
