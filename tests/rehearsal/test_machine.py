"""The machine with pretended devices: which one a process takes, and what makes a run on it repeatable."""

import pytest
import torch

from headstart.base.errors import ParamsError
from headstart.base.machine import choose_device, is_strictly_repeatable, make_repeatable
from tests.rehearsal.device import pretended


@pytest.mark.parametrize(("rank", "expected"), [("0", "cuda:0"), ("1", "cuda:1"), ("3", "cuda:1")])
def test_each_process_takes_its_gpu(monkeypatch: pytest.MonkeyPatch, rank: str, expected: str) -> None:
    """The processes that torchrun starts take the GPUs in turn; a name of a device is taken as it is."""
    monkeypatch.setenv("LOCAL_RANK", rank)
    with pretended("cuda", count=2):
        assert choose_device("auto") == choose_device("cuda") == expected
        assert choose_device("cuda:0") == "cuda:0"
        with pytest.raises(ParamsError, match="2 CUDA devices"):
            choose_device("cuda:2")
        with pytest.raises(ParamsError, match="does not have"):
            choose_device("mps")


@pytest.mark.usefixtures("cuda")
def test_a_run_on_a_gpu_is_repeatable() -> None:
    """Kernels without atomic sums, no TF32, no choice by timing; and no time is spent on filling new memory."""
    make_repeatable()
    assert is_strictly_repeatable()
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
