"""The machine: its processes, which errors are a lack of memory, and what makes a run repeatable."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from headstart.base import machine
from headstart.base.machine import (
    RuntimeParams,
    allow_unrepeatable,
    choose_device,
    is_out_of_memory,
    is_strictly_repeatable,
    make_repeatable,
    num_processes,
)
from tests.support.source import ROOT


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB, max allowed: 18.13 GB)."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
)
def test_a_lack_of_memory_is_known_by_type_or_text(error: RuntimeError) -> None:
    """The libraries of a GPU report a lack of memory by different errors, some of them plain RuntimeErrors."""
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: an illegal memory access was encountered"), ValueError("out of memory")]
)
def test_another_error_is_no_lack_of_memory(error: Exception) -> None:
    """A bug must not be taken for a lack of memory and tried again with less."""
    assert not is_out_of_memory(error)


def runtime(**changes: Any) -> RuntimeParams:
    """Return the shipped params of the machine with changes."""
    section = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))["runtime"]
    return RuntimeParams.model_validate(section | changes)


@pytest.mark.parametrize(("most", "num"), [(0, 1), (1, 1), (3, 3), (20, 8)])
def test_auto_starts_no_process_without_enough_work(monkeypatch: pytest.MonkeyPatch, most: int, num: int) -> None:
    """On 8 GPUs `auto` starts as many processes as there is work for, at least one; a number is always obeyed."""
    monkeypatch.setattr(machine, "count_gpus", lambda _: 8)

    assert num_processes(runtime(), most) == num
    assert num_processes(runtime(processes=5), most) == 5


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pretend a GPU, and restore torch's settings of repeatability afterwards."""
    settings = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    yield
    torch.use_deterministic_algorithms(settings[0], warn_only=settings[1])
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@pytest.mark.usefixtures("repeatable")
def test_a_refused_operation_is_allowed_once_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A run is strict until torch refuses an operation. Then it is allowed, and one line names the operation."""
    refusal = RuntimeError(
        "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation ..."
    )
    make_repeatable()
    assert is_strictly_repeatable()
    assert not allow_unrepeatable(RuntimeError("CUDA error: invalid argument"))
    assert is_strictly_repeatable()
    assert allow_unrepeatable(refusal)
    assert not is_strictly_repeatable()
    assert torch.are_deterministic_algorithms_enabled()
    assert not allow_unrepeatable(refusal)

    line = "adaptive_avg_pool2d_backward_cuda has no repeatable kernel on this GPU; runs may differ"
    assert capsys.readouterr().err.count(line) == 1


@pytest.mark.usefixtures("repeatable")
@pytest.mark.parametrize("given", [None, ":16:8", "4096"])
def test_repeatable_kernels_do_not_fill_new_memory(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    """Torch does not fill new memory, and cuBLAS gets a setting with which it is repeatable, unless it has one."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given or "")
    make_repeatable()

    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (given if given == ":16:8" else ":4096:8")
    assert is_strictly_repeatable()


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_torch_cannot_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is a driver of NVIDIA but torch finds no GPU, `auto` says once why the CPU computes."""
    driver = tmp_path / "nvidiactl"
    driver.touch()
    monkeypatch.setattr(machine, "_NVIDIA", str(driver))
    monkeypatch.setattr(machine, "_GPU_NODES", (str(driver),))
    machine._explain_unusable_gpu.cache_clear()
    for visible, num_lines in (("", 0), ("0", 1), ("0", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        if visible and num_lines:
            machine._explain_unusable_gpu.cache_clear()

        assert choose_device("auto") == "cpu"
        said = capsys.readouterr().err
        assert said.count("\n") == num_lines
        assert (f"torch {torch.__version__} cannot use the GPU, so the CPU computes: " in said) == bool(num_lines)
