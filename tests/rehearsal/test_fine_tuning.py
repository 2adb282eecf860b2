"""Fine-tuning on a pretended device: the CPU's results, few waits, and a clear end when memory runs out."""

import shutil
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from headstart.base.errors import TrainingError
from stages.finetune.history import Epoch
from tests.rehearsal.device import at_call, pretended, waits_at
from tests.rehearsal.outcome import SHORT, assert_same, losses
from tests.rehearsal.state import Device
from tests.support.finetuning import Tune, tensors_of

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mixup": {"augmentation__mixup": 0.2},
    "accumulated": {"accumulate": 2, "optimizer__clip": 1.0},
    "frozen prefix": {"unfreeze": "layer4", "augmentation__kind": "none"},
    "BatchNorm that trains": {"batch_norm": "train", "optimizer__kind": "sgd"},
    "refit": {"refit": "all"},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpu_gives_the_results_of_the_cpu(tune: Tune, variant: str) -> None:
    """In float32, a GPU gives the CPU's losses, weights and predictions, whatever trains and however."""
    changes = SHORT | VARIANTS[variant]
    cpu = tune(**changes)
    with pretended("cuda"):
        mine = tune(runtime={"device": "cuda"}, **changes)
    assert mine.device == "cuda:0"
    assert mine.has_frozen_prefix == (variant == "frozen prefix")
    assert cpu.kept.epoch == 1
    assert_same(mine, cpu)


@pytest.mark.slow
def test_an_apple_gpu_gives_the_results_of_the_cpu(tune: Tune) -> None:
    """MPS, which has no float64, trains and predicts as the CPU does."""
    cpu = tune(**SHORT)
    with pretended("mps"):
        mine = tune(runtime={"device": "mps"}, **SHORT)
    assert mine.device == "mps"
    assert_same(mine, cpu)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_near(tune: Tune, precision: str) -> None:
    """In half precision the losses are those of the CPU up to its rounding, and the weights stay finite float32."""
    changes = SHORT | {"unfreeze": "layer4"}  # float16 is slow on a CPU
    cpu = tune(**changes)
    with pretended("cuda"):
        mine = tune(runtime={"device": "cuda"}, precision=precision, **changes)
    assert losses(mine) != losses(cpu)
    assert np.allclose(losses(mine), losses(cpu), rtol=0.05, atol=0.02)
    for tensor in tensors_of(mine).values():
        assert np.isfinite(tensor).all()
        assert tensor.dtype in (np.float32, np.int64)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        ((8, 0), torch.bfloat16),
        ((7, 5), torch.float16),
    ],
)
def test_auto_is_the_fast_half_precision(capability: tuple[int, int], dtype: torch.dtype) -> None:
    """`finetune.precision: auto` is bfloat16 where the GPU has it, else float16; emulated bfloat16 would be slow."""
    from stages.finetune.stepper import forward_dtype

    with pretended("cuda", capability=capability):
        assert forward_dtype("auto", torch.device("cuda:0")) == dtype


@pytest.mark.slow
def test_a_killed_run_continues_on_the_gpu(tune: Tune) -> None:
    """A run that is killed after an epoch continues from its checkpoint, and ends as one that was not killed."""

    def kill(history: Sequence[Epoch]) -> None:
        if history[-1].epoch == 1:
            raise KeyboardInterrupt

    changes = SHORT | {"epochs": 2, "runtime": {"device": "cuda"}}
    with pretended("cuda"):
        whole = tune(**changes)
        shutil.rmtree(whole.checkpoint.folder)
        with pytest.raises(KeyboardInterrupt):
            tune(watch=kill, **changes)
        continued = tune(**changes)
    assert continued.timings.num_images == whole.timings.num_images // 2
    assert_same(continued, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("accumulate", "precision", "most"), [(1, "float32", 1), (2, "float32", 1), (1, "float16", 2)])
def test_a_step_waits_once(tune: Tune, cuda: Device, accumulate: int, precision: str, most: int) -> None:
    """A training step waits for the GPU at most once, however many parts it has; the scaler of float16 waits too."""
    counts = waits_at(cuda, "cross_entropy")
    changes = SHORT | {"unfreeze": "layer4", "accumulate": accumulate, "precision": precision}
    tune(runtime={"device": "cuda"}, **changes)
    of_steps = counts[::accumulate]
    assert len(of_steps) == 4  # the first one is the rehearsal of a step
    assert max(later - earlier for earlier, later in pairwise(of_steps)) <= most


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [
        "plain",
        "frozen prefix",
    ],
)
def test_inputs_are_copied_beside_the_work(tune: Tune, cuda: Device, variant: str) -> None:
    """Pictures, and activations of a frozen prefix, go up from pinned memory without blocking."""
    tune(runtime={"device": "cuda"}, **SHORT | VARIANTS[variant])
    inputs = cuda.log.pictures_up
    if variant == "frozen prefix":
        inputs = inputs + [copy for copy in cuda.log.up if copy.where.startswith("stages/finetune/inputs.py")]
        assert {copy.dtype for copy in inputs} == {torch.uint8, torch.float32, torch.int64}  # int64: classes
    assert inputs
    assert [copy for copy in inputs if copy.is_blocking] == []


FAILURES = {
    "in the first validation": (lambda total: at_call("conv2d", 1), False),  # noqa: ARG005
    "in the backward pass": (lambda total: at_call("backward", 2), True),  # noqa: ARG005
    "in the optimizer's first step": (lambda total: at_call("zeros_like", 1), True),  # noqa: ARG005
    "in the last prediction": (lambda total: at_call("conv2d", total), False),
    "in cuDNN": (lambda total: at_call("conv2d", total, RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")), False),
    "when the network moves": (lambda total: at_call("to", 1), True),  # noqa: ARG005
}


@pytest.mark.slow
@pytest.mark.parametrize("where", FAILURES)
def test_every_lack_of_memory_has_a_clear_end(
    tune: Tune, cuda: Device, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Passes without gradients halve where memory is short. Elsewhere the run ends and says what to lower."""
    changes = SHORT | {"unfreeze": "layer4"}
    whole = tune(runtime={"device": "cuda"}, **changes)
    make, is_the_end = FAILURES[where]
    failure = make(cuda.log.computed["conv2d"])
    shutil.rmtree(".cache/finetune", ignore_errors=True)
    cuda.failures[:] = [failure]
    if is_the_end:
        with pytest.raises(TrainingError, match="out of memory"):
            tune(runtime={"device": "cuda"}, **changes)
    else:
        assert_same(tune(runtime={"device": "cuda"}, **changes), whole)
        assert "out of memory; 2 pictures at once" in capsys.readouterr().out
