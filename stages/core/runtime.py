"""The machine: which device to compute on, found without torch where that is possible."""

import os
import sys
from pathlib import Path

from stages.core.errors import ParamsError
from stages.core.sections import RuntimeParams

# What the drivers of NVIDIA, of NVIDIA under WSL and of AMD put there. Without any of them Linux has no GPU that torch
# knows, and torch, whose import takes seconds, need not be asked.
_GPU_NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def choose_device(wanted: str, asked_by: str = "runtime.device") -> str:
    """Return the device to compute on, such as `cpu` or `cuda:0`: for `auto` the GPU if there is one, else the CPU.

    Args:
        wanted: As in `runtime.device`.
        asked_by: For the message.

    Raises:
        ParamsError: A device is asked for that this machine, or this build of torch, does not have.
    """
    if wanted == "cpu" or (wanted == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted == "cuda" and torch.cuda.is_available():  # of the processes that torchrun started, each takes its own
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ParamsError(f"{asked_by}: found {wanted!r}; expected auto, cpu, cuda, cuda:1, mps, ...") from error
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ParamsError(
            f"{asked_by}: found {wanted!r}, which this machine does not have "
            f"({torch.cuda.device_count()} CUDA devices); expected auto, cpu or a device that it has"
        )
    return wanted


def wait_asleep() -> None:
    """Let the threads of torch on a CPU sleep while they wait for each other. Call it before torch is imported.

    By default they spin, and beside any other work, such as decoding, each waits for one that has no core: with two
    cores and another job, fine-tuning took twice to twenty times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_repeatable() -> None:
    """Ask torch on a GPU for the same bits at every run: no choice by timing, no atomic sums, full float32.

    An operation that has no such kernel warns and runs as it can.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    import torch

    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)


def count_gpus(runtime: RuntimeParams) -> int:
    """Return the number of CUDA devices that `runtime.device` lets a run use."""
    if runtime.device not in ("auto", "cuda") or not _may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count()


def _may_have_gpu() -> bool:
    return sys.platform != "linux" or any(Path(node).exists() for node in _GPU_NODES)
