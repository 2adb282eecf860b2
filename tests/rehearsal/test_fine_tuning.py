"""Fine-tuning on a pretended device: the CPU's results, few waits, and a clear end when memory runs out."""

import shutil
from collections.abc import Sequence
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
    counts = waits_at(cuda, "cross_entropy")  # the loss of each part of a step
    changes = SHORT | {"unfreeze": "layer4", "accumulate": accumulate, "precision": precision}
    tune(runtime={"device": "cuda"}, **changes)
    num_steps = 3
    assert len(counts) >= num_steps * accumulate
    assert counts[-1] - counts[0] <= most * (num_steps - 1)  # between the losses of the first and the last step


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
        assert {torch.uint8, torch.float32} <= {copy.dtype for copy in inputs}
    assert inputs
    assert [copy for copy in inputs if copy.is_blocking] == []


FAILURES = {
    "in the first validation": lambda total: at_call("conv2d", 1),  # noqa: ARG005
    "in the backward pass": lambda total: at_call("backward", 2),  # noqa: ARG005
    "in the optimizer's first step": lambda total: at_call("zeros_like", 1),  # noqa: ARG005
    "in the last prediction": lambda total: at_call("conv2d", total),
    "in cuDNN": lambda total: at_call("conv2d", total // 2, RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")),
    "when the network moves": lambda total: at_call("to", 1),  # noqa: ARG005
}


@pytest.mark.slow
def test_every_lack_of_memory_has_a_clear_end(tune: Tune, cuda: Device) -> None:
    """Wherever memory runs out, the run goes on with less, or its error says what to lower; it is never torch's own."""
    changes = SHORT | {"unfreeze": "layer4"}
    whole = tune(runtime={"device": "cuda"}, **changes)
    total = cuda.log.computed["conv2d"]
    unclear = {}
    for where, make in FAILURES.items():
        shutil.rmtree(".cache/finetune", ignore_errors=True)
        cuda.failures[:] = [make(total)]
        try:
            assert_same(tune(runtime={"device": "cuda"}, **changes), whole)
        except TrainingError as error:
            assert "memory" in str(error)
        except Exception as error:  # noqa: BLE001 - the test collects them
            unclear[where] = type(error).__name__
    assert unclear == {}
