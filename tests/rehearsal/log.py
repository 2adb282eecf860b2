"""The log of a pretended device: its copies, waits and calls, with the line of this project that asked for each."""

import sys
from collections import Counter
from dataclasses import dataclass, field

import torch

from tests.support.source import ROOT

_HERE = f"{ROOT}/tests/rehearsal"


@dataclass(frozen=True)
class Transfer:
    """A copy between the memory of the host and that of the device.

    Attributes:
        shape: Shape of the tensor.
        dtype: Its type.
        is_pinned: Whether the memory of the host is pinned.
        is_blocking: Whether the host waits for the copy. A copy from memory that is not pinned always blocks.
        where: Line of this project that asked for it, such as `stages/finetune/inputs.py:31`.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    is_pinned: bool
    is_blocking: bool
    where: str

    @property
    def num_bytes(self) -> int:
        """Size in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass
class Log:
    """What the device was asked for, in order.

    Attributes:
        up: Copies to the device.
        down: Copies from the device.
        waits: For each time that the host waited for the device, the line of this project that made it wait. A copy
            that blocks is a wait, also one up, because it comes after all earlier work.
        computed: Number of calls of each of torch's functions with tensors on the device, by name.
        collectives: Collective operations, by name, in order.
        backends: Backends that process groups were asked for, such as `nccl`.
        chosen: Devices that `torch.cuda.set_device` chose.
        emptied: Number of times that the cache of free memory was emptied.
        replayed: Number of replays of captured graphs.
    """

    up: list[Transfer] = field(default_factory=list)
    down: list[Transfer] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    computed: Counter[str] = field(default_factory=Counter)
    collectives: list[str] = field(default_factory=list)
    backends: list[str] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    emptied: int = 0
    replayed: int = 0

    @property
    def pictures_up(self) -> list[Transfer]:
        """Copies up of batches of pixels: uint8 (..., 3)."""
        return [copy for copy in self.up if copy.dtype == torch.uint8 and copy.shape[-1:] == (3,)]


def line_of_project() -> str:
    """Return the innermost line of this project on the stack, outside this folder; empty if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(f"{ROOT}/") and not name.startswith(_HERE):
            return f"{name.removeprefix(f'{ROOT}/')}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return ""
