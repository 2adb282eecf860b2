"""The machine: its device, its threads, its processes, and what makes a run repeatable."""

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field

from headstart.base.errors import ParamsError
from headstart.base.params import Section, read_section
from headstart.base.threads import num_cores

# Device files of the drivers of NVIDIA, NVIDIA under WSL, and AMD. Without any of them a Linux machine has no GPU for
# torch, and importing torch, which takes seconds, is not necessary.
_NVIDIA = "/dev/nvidiactl"
_GPU_NODES = (_NVIDIA, "/dev/dxg", "/dev/kfd")
_REFUSAL = "does not have a deterministic implementation"  # in torch's error, after the name of the operation
# What torch's errors say if a device, a library of NVIDIA, or the computer itself has too little memory. Some of them
# are plain RuntimeErrors.
_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED", "can't allocate memory", "not enough memory")
_TIMEOUT_DAYS = 7  # for the slowest machine


class RuntimeParams(Section):
    """`runtime:` the machine and its speed. No stage tracks it, because it never changes a result."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$")]
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"]
    processes: Annotated[int, Field(ge=1, le=64)] | Literal["auto"]
    engine: Literal["auto", "onnx", "torch"]
    compile: bool
    batch: Annotated[int, Field(ge=2, le=4096)] | Literal["auto"]
    memory: Annotated[ByteSize, Field(ge=64 * 2**20)]
    store: Annotated[str, Field(min_length=1)]
    pixels: Annotated[ByteSize, Field(ge=0)]
    gpu_resize: bool

    @property
    def batch_or_none(self) -> int | None:
        """Number of images in a forward pass; None if the engine chooses."""
        return None if self.batch == "auto" else self.batch

    @property
    def num_workers(self) -> int:
        """Number of threads. `auto` is one for each core, shared with the other processes that torchrun started."""
        if self.workers != "auto":
            return self.workers
        return max(1, num_cores() // num_local_ranks())


def read_runtime(path: Path) -> RuntimeParams:
    """Read the section `runtime` of a params file, and no other.

    Raises:
        ParamsError: As `read_section`.
    """
    return read_section(path, "runtime", RuntimeParams)


def cache_folder() -> Path:
    """Return the project's folder `.cache`, whose files make later runs faster and change no result.

    DVC sets $DVC_ROOT to the main checkout, also for an experiment in a temporary workspace, so all share one folder.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".cache"


def choose_device(wanted: str, asked_by: str = "runtime.device") -> str:
    """Return the device to compute on, such as `cpu` or `cuda:0`. `auto` is the GPU if there is one, else the CPU.

    Args:
        wanted: Name of a device, as in `runtime.device`: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        asked_by: Name of the setting or option, for the message.

    Raises:
        ParamsError: This machine, or this build of torch, does not have the device.
    """
    if wanted == "cpu" or (wanted == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        if wanted == "cpu":
            _explain_unusable_gpu()
    if wanted == "cuda" and torch.cuda.is_available():  # each process that torchrun started takes a GPU of its own
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
            f"({torch.cuda.device_count()} CUDA devices); expected auto, cpu or a device of this machine"
        )
    return wanted


def wait_asleep() -> None:
    """Make the CPU threads of torch sleep while they wait for each other. Call this before torch is imported.

    By default they spin and keep their cores busy, so that other work, such as decoding, has to wait. With two cores
    and another job, fine-tuning took 2 to 20 times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_repeatable() -> None:
    """Make torch give the same bits in every run on a GPU: no kernels chosen by timing, no atomic sums, no TF32.

    An operation that has no repeatable kernel raises an error from now on, for which `allow_unrepeatable` is made. If
    it only gave a warning, torch would choose kernels of attention that are not repeatable.
    """
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in (":4096:8", ":16:8"):  # it is read when CUDA starts
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    import torch

    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    # Filling all new memory would only serve code that reads memory before it writes there.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)


def is_strictly_repeatable() -> bool:
    """Return whether torch refuses operations that have no repeatable kernel."""
    import torch

    return torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()


def allow_unrepeatable(error: BaseException) -> bool:
    """Allow operations that have no repeatable kernel from now on, and say so, if an error is such a refusal.

    Returns:
        Whether it is one, so that the same work can be tried again.
    """
    operation, found, _ = str(error).partition(_REFUSAL)
    if not found or not is_strictly_repeatable():
        return False
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    print(
        f"{operation.strip()} has no repeatable kernel on this GPU; runs may differ in their last digits",
        file=sys.stderr,  # the output of `predict` is a table
    )
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device has too little memory.

    Drop the error before you try again with less: its stack trace holds the tensors of the failed attempt.

    Args:
        error: Error that torch raised.
    """
    import torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    )


def count_gpus(runtime: RuntimeParams) -> int:
    """Return the number of CUDA devices that `runtime.device` lets a run use."""
    if runtime.device not in ("auto", "cuda") or not _may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count()


@dataclass(frozen=True)
class Rank:
    """The place of this process among those that torchrun started.

    Attributes:
        rank: Number of this process, from 0 to `num_ranks` - 1.
        num_ranks: Number of processes on all machines.
    """

    rank: int
    num_ranks: int

    def takes(self, digest: str) -> bool:
        """Return whether this rank works on an image. The digest decides, so the ranks need not communicate."""
        return int(digest[:8], 16) % self.num_ranks == self.rank


def this_rank() -> Rank | None:
    """Return the rank of this process; None if torchrun did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def num_local_ranks() -> int:
    """Return the number of processes that torchrun started on this machine, this one among them; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def wait_for_others(rank: Rank) -> None:
    """Wait until the ranks of all machines are done, for at most a week. On a single machine, do nothing.

    torchrun restarts a dead process only together with the other machines. A machine whose processes have all ended no
    longer takes part, and the restarted process would wait for it forever.
    """
    if int(os.environ["GROUP_WORLD_SIZE"]) == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch: seconds

    timeout = timedelta(days=_TIMEOUT_DAYS)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timeout)
    store.set(f"done/{rank.rank}", "")
    store.wait([f"done/{other}" for other in range(rank.num_ranks)], timeout)


def num_processes(runtime: RuntimeParams, most: int) -> int:
    """Return the number of processes on this machine. `auto` is one for each GPU, or one without a GPU.

    Args:
        runtime: Params of the machine.
        most: Number of processes beyond which `auto` does not go, because each would have too little work.
    """
    return max(1, min(count_gpus(runtime), most)) if runtime.processes == "auto" else runtime.processes


@cache
def _explain_unusable_gpu() -> None:
    """Say why torch cannot use the GPU whose driver is there, for example because the driver is too old."""
    if not Path(_NVIDIA).exists() or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:  # an AssertionError if torch was built without CUDA
        reason = str(error).strip().splitlines()[0]
        print(
            f"WARNING: this machine has a driver of NVIDIA, but torch {torch.__version__} cannot use the GPU, so the "
            f"CPU computes: {reason} (CUDA_VISIBLE_DEVICES= silences this)",
            file=sys.stderr,
        )


def _may_have_gpu() -> bool:
    return sys.platform != "linux" or any(Path(node).exists() for node in _GPU_NODES)
