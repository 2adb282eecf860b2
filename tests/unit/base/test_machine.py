"""The machine: which errors are a lack of memory."""

import pytest
import torch

from headstart.base.machine import is_out_of_memory


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
