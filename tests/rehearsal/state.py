"""The state of a pretended device: its streams, its copies in flight, and how it fails.

The device computes at once. Only copies between it and pinned memory are in flight: until the host has waited for one,
its target on the host holds no numbers, and its source on the host must stay as it is.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.rehearsal.log import Log, line_of_project

# A function of the name of one of torch's functions and of its tensors on the device. It returns an error to raise.
Failure = Callable[[str, Sequence[torch.Tensor]], Exception | None]


class RaceError(AssertionError):
    """The code reads or overwrites memory that a copy in flight still uses. A real device would give wrong numbers."""


class Stream:
    """A stream, as `torch.cuda.Stream`. Work of several streams has no order, unless one waits for another."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device, self.priority = device, priority

    def wait_stream(self, other: "Stream") -> None:
        """Order later work of this stream after earlier work of another."""
        _order(active().copies_before(other), self)

    def wait_event(self, event: "Event") -> None:
        """Order later work of this stream after what an event recorded."""
        event.wait(self)

    def record_event(self, event: "Event | None" = None) -> "Event":
        """Record earlier work of this stream."""
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Make the host wait for earlier work of this stream."""
        active().wait(active().copies_before(self))

    def query(self) -> bool:
        """Return whether earlier work of this stream is done."""
        return self.record_event().query()

    def is_capturing(self) -> bool:
        """Return whether a graph captures the work of this stream."""
        return active().captured is not None


class Event:
    """An event, as `torch.cuda.Event`."""

    def __init__(self, enable_timing: bool = False, **_: Any) -> None:
        self.is_timed = enable_timing
        self._recorded: list[CopyInFlight] = []

    def record(self, stream: Stream | None = None) -> None:
        """Record earlier work of a stream; None for the current one."""
        self._recorded = active().copies_before(stream or active().current_stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Order later work of a stream after what was recorded."""
        _order(self._recorded, stream or active().current_stream)

    def synchronize(self) -> None:
        """Make the host wait for what was recorded."""
        active().wait(self._recorded)

    def query(self) -> bool:
        """Return whether what was recorded is done. It is done when the host asks for the second time."""
        left = [copy for copy in self._recorded if copy in active().in_flight]
        active().finish(left)
        return not left

    def elapsed_time(self, end: "Event") -> float:
        """Return the milliseconds to another event."""
        assert self.is_timed, "both events need enable_timing=True"
        assert end.is_timed, "both events need enable_timing=True"
        return 1.0


@dataclass(eq=False)
class CopyInFlight:
    """A copy between pinned memory and the device that the host has not waited for.

    Attributes:
        host: Tensor on the host.
        device: Tensor on the device.
        value: What the tensor on the host holds (copy up) or is going to hold (copy down).
        is_up: Whether it goes to the device.
        where: Line of this project that asked for it.
        streams: Streams whose later work comes after it.
    """

    host: torch.Tensor
    device: torch.Tensor
    value: torch.Tensor
    is_up: bool
    where: str
    streams: set[Stream] = field(default_factory=set)

    def finish(self) -> None:
        """Let the numbers arrive on the host, or check that those to copy up have stayed."""
        if not self.is_up:
            self.host.copy_(self.value)
        elif not torch.equal(self.host, self.value):
            raise RaceError(f"{self.where}: the pinned memory was overwritten before the host waited for its copy")


class Device:
    """The device that is pretended. There is one at a time; `count` devices share its state.

    Attributes:
        kind: `cuda` or `mps`.
        count: Number of devices.
        log: What it was asked for.
        failures: Each is asked before every computation, and before a copy up (`to`), and may return an error to raise.
        in_flight: Copies that the host has not waited for.
        pinned: Pinned tensors. They live as long as the device, so that no other tensor gets their memory.
        captured: Calls that a graph captures: function, arguments, options, result. None while no graph captures.
    """

    def __init__(self, kind: str, count: int) -> None:
        self.kind, self.count, self.log = kind, count, Log()
        self.failures: list[Failure] = []
        self.in_flight: list[CopyInFlight] = []
        self.pinned: list[torch.Tensor] = []
        self.captured: list[tuple[Callable[..., Any], Any, Any, Any]] | None = None
        self._default, self._local = dict[int, Stream](), threading.local()

    @property
    def current(self) -> torch.device:
        """The device that this thread has chosen."""
        return torch.device(self.kind, getattr(self._local, "number", 0))

    def choose(self, number: int) -> None:
        """Choose a device for this thread."""
        if not 0 <= number < self.count:
            raise RuntimeError(f"CUDA error: invalid device ordinal ({number} of {self.count})")
        self._local.number = number

    @property
    def default_stream(self) -> Stream:
        """The stream of the current device that work goes to unless another one is chosen."""
        return self._default.setdefault(self.current.index, Stream())

    @property
    def current_stream(self) -> Stream:
        """The stream that the work of this thread goes to."""
        stream: Stream = getattr(self._local, "stream", None) or self.default_stream
        return stream

    @current_stream.setter
    def current_stream(self, stream: Stream) -> None:
        self._local.stream = stream

    def fail(self, name: str, tensors: Sequence[torch.Tensor]) -> None:
        """Raise the error of the first failure that has one for a computation."""
        for failure in self.failures:
            if (error := failure(name, tensors)) is not None:
                raise error

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor on the host lies in pinned memory."""
        at = tensor.untyped_storage().data_ptr()
        return any(start <= at < start + size for start, size in map(_extent, self.pinned))

    def start(self, host: torch.Tensor, device: torch.Tensor, *, is_up: bool) -> None:
        """Put a copy on the current stream. The numbers are those of now."""
        host, device = host.detach(), device.detach()
        value = (host if is_up else device).clone()
        self.in_flight.append(CopyInFlight(host, device, value, is_up, line_of_project(), {self.current_stream}))
        if not is_up:  # nobody may read it yet
            host.fill_(float("nan") if host.is_floating_point() else 77)

    def check_order(self, tensor: torch.Tensor) -> None:
        """Raise if the current stream uses a tensor whose copy up another stream may still be working on."""
        storage = tensor.untyped_storage().data_ptr()
        for copy in self.in_flight:
            is_ordered = not copy.is_up or self.current_stream in copy.streams
            if not is_ordered and copy.device.untyped_storage().data_ptr() == storage:
                raise RaceError(f"{copy.where}: another stream uses the tensor without waiting for its copy")

    def copies_before(self, stream: Stream) -> list[CopyInFlight]:
        """Return the copies in flight that come before later work of a stream."""
        return [copy for copy in self.in_flight if stream in copy.streams]

    def wait(self, copies: Iterable[CopyInFlight] | None = None) -> None:
        """Make the host wait for some copies; None for those of the current stream."""
        if self.captured is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.log.waits.append(line_of_project())
        self.finish(self.copies_before(self.current_stream) if copies is None else copies)

    def finish(self, copies: Iterable[CopyInFlight]) -> None:
        """End some copies, unless they have ended."""
        for copy in list(copies):
            if copy in self.in_flight:
                self.in_flight.remove(copy)
                with torch.inference_mode():
                    copy.finish()


def _order(copies: Iterable[CopyInFlight], stream: Stream) -> None:
    for copy in copies:
        copy.streams.add(stream)


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


_active: list[Device] = []


def active() -> Device:
    """Return the device that is pretended at present."""
    return _active[-1]


def is_active() -> bool:
    """Return whether a device is pretended at present."""
    return bool(_active)
