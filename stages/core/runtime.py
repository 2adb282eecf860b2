"""The machine: its device and the settings that make its results repeatable."""

import torch

from stages.core.errors import ParamsError
from stages.core.sections import RuntimeParams


def choose_device(runtime: RuntimeParams) -> torch.device:
    """Return the device to compute on: for `auto` the GPU if there is one, else the CPU.

    Raises:
        ParamsError: A device is asked for that this machine, or this build of torch, does not have.
    """
    wanted = runtime.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(wanted)
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ParamsError(
            f"runtime.device: found {wanted!r}, which this machine does not have "
            f"({torch.cuda.device_count()} CUDA devices); expected auto, cpu or a device that it has"
        )
    return device


def make_repeatable() -> None:
    """Ask CUDA for the same bits at every run: deterministic kernels, full float32, no timing-based choice."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
