"""Fine-tuning on devices of all kinds: memory that does not suffice, precision, few waits and one size of passes."""

from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch import nn
from torch.nn import functional
from torchvision.transforms import v2

from headstart.base.errors import ParamsError, TrainingError
from headstart.base.machine import is_strictly_repeatable
from headstart.tables.index import IndexRow
from stages.finetune import losses, trainer
from stages.finetune.augmentation import _Draws
from stages.finetune.frozen_prefix import FrozenPrefix
from stages.finetune.losses import Losses
from stages.finetune.memory import ForwardPasses, explain_out_of_memory, fill_up
from stages.finetune.optimizer import make_optimizer
from stages.finetune.params import FinetuneParams
from stages.finetune.stepper import Stepper, forward_dtype
from stages.finetune.subsets import LabelledImage
from tests.rehearsal.device import pretended
from tests.support.finetuning import Tune, differing, tensors_of
from tests.support.source import ROOT
from tests.unit.stages.test_finetune import keep_the_last

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
REFUSAL = "some_pool_backward_cuda does not have a deterministic implementation, but you set ..."


def finetune_params_of(kind: str = "adamw") -> FinetuneParams:
    """Return the shipped params of fine-tuning with a batch of 4 and an optimizer."""
    section = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))["finetune"]
    return FinetuneParams.model_validate(section | {"batch": 4, "optimizer": section["optimizer"] | {"kind": kind}})


class Device:
    """A function on a device that holds only so many inputs, which records the sizes of its passes."""

    def __init__(self, most: int, error: RuntimeError) -> None:
        self.most, self.error = most, error
        self.sizes: list[int] = []

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the squares of the inputs."""
        self.sizes.append(len(inputs))
        if len(inputs) > self.most:
            raise self.error
        return inputs.square()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")]
)
def test_a_pass_halves_where_memory_is_short(error: RuntimeError, capsys: pytest.CaptureFixture[str]) -> None:
    """Passes without gradients take half of the inputs until these fit, and stay so; the results are the same."""
    inputs, passes, device = torch.rand(8, 3), ForwardPasses(CPU, 8), Device(3, error)

    assert torch.equal(passes(device, inputs), inputs.square())
    assert torch.equal(passes(device, inputs), inputs.square())
    assert device.sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert "cpu: out of memory; 2 pictures at once from now on" in capsys.readouterr().out


def test_memory_for_not_even_one_picture_is_an_error() -> None:
    """If a single picture does not fit, the error names the params that help."""
    params = finetune_params_of()
    clear = pytest.raises(TrainingError, match=r"cuda:0: out of memory at a batch of 4 .*transform\.px")
    with clear, explain_out_of_memory(CUDA, params):
        ForwardPasses(CPU, 8)(Device(0, torch.OutOfMemoryError("CUDA out of memory")), torch.rand(8, 3))
    with pytest.raises(RuntimeError, match="illegal"), explain_out_of_memory(CUDA, params):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_passes_on_cuda_have_one_size() -> None:
    """CuDNN plans anew for each number of inputs, so passes are filled up on CUDA; on a CPU they take what comes."""
    inputs = torch.rand(11, 3)
    for device, sizes in ((CUDA, [4, 4, 4]), (CPU, [11])):
        function = Device(100, RuntimeError())
        assert torch.equal(ForwardPasses(device, 4)(function, inputs), inputs.square())
        assert function.sizes == sizes
    assert torch.equal(fill_up(inputs[:2], 5), inputs[[0, 1, 0, 1, 0]])


@pytest.mark.parametrize(
    ("kind", "native", "dtype"),
    [
        ("cuda", True, torch.bfloat16),
        ("cuda", False, torch.float16),  # T4, V100: bfloat16 is emulated
        ("mps", False, torch.float32),
        ("cpu", False, torch.float32),
    ],
)
def test_auto_is_the_precision_that_the_device_computes(
    monkeypatch: pytest.MonkeyPatch, kind: str, *, native: bool, dtype: torch.dtype
) -> None:
    """`finetune.precision: auto` never takes a precision that the device only emulates."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)

    assert forward_dtype("auto", torch.device(kind)) == dtype
    assert forward_dtype("bfloat16", torch.device(kind)) == torch.bfloat16


@pytest.mark.parametrize(("kind", "fused"), [("adamw", True), ("sgd", True), ("rmsprop", None)])
def test_the_optimizer_on_cuda_is_fused(kind: str, fused: bool | None) -> None:
    """On CUDA one kernel updates many tensors, if the optimizer has one; on a CPU torch chooses as before."""
    params = finetune_params_of(kind).optimizer
    for device, expected in ((CUDA, fused), (CPU, None)):
        groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": 0.1, "weight_decay": 0.0}]
        assert make_optimizer(groups, params, device).defaults.get("fused") == expected


def test_a_loss_is_read_some_steps_later_and_still_names_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are read together. If one is not finite, the error names its own step and images, not the last ones."""
    monkeypatch.setattr(losses, "_STEPS_PER_READ", 3)
    rows = [IndexRow(f"{number}.jpg", "0" * 64, "JPEG", 60, 40, "ok", "") for number in range(8)]
    images = [LabelledImage(row, "red", "") for row in rows]
    read = Losses(images)
    for step, values in enumerate([[0.25], [0.5, 0.125], [1.0], [2.0]]):
        read.add([torch.tensor(value) for value in values], np.array([step]), f"step {step}")
    assert read.total().item() == 3.875

    read.add([torch.tensor(torch.nan)], np.array([4]), "step 4")
    read.add([torch.tensor(torch.nan)], np.array([5]), "step 5")
    with pytest.raises(TrainingError, match=r"^step 4: the loss is nan, on 4\.jpg\. "):
        read.add([torch.tensor(1.0)], np.array([6]), "step 6")


def test_no_checkpoint_is_saved_after_a_loss_that_is_not_finite(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is not finite in the last step of an epoch, or before, ends the run before its state is saved."""
    saved: list[int] = []
    step = Stepper.step

    def spoil(self: Stepper, *given: Any) -> list[torch.Tensor]:
        return [part * torch.nan for part in step(self, *given)]

    monkeypatch.setattr(Stepper, "step", spoil)
    monkeypatch.setattr(trainer.Trainer, "_save", lambda self, _: saved.append(self.history[-1].epoch))
    with pytest.raises(TrainingError, match="epoch 1, step 1 of 3: the loss is nan"):
        tune()

    assert saved == [0]


@pytest.mark.parametrize("size", [(500, 375), (60, 40), (33, 900), (900, 33)])
def test_draws_are_those_of_torchvision(size: tuple[int, int]) -> None:
    """Our draws are torchvision's own from a generator with the same seed; the last two sizes have its fallback."""
    crop, affine = v2.RandomResizedCrop(32, scale=(0.3, 1.0)), v2.RandomAffine(10.0, (0.08, 0.08), (0.9, 1.1))
    picture = torch.empty(3, size[1], size[0])
    for seed in range(50):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = crop.make_params([picture]), bool(torch.rand(()) < 0.5)
            torch.manual_seed(seed)
            turned = affine.make_params([picture])
        draws = _Draws(seed)
        assert (draws.crop(crop, *size), draws.coin()) == expected
        assert _Draws(seed).affine(affine, *size) == turned


def test_activations_are_not_made_again_after_the_training(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that started others finds their training finished, and runs the frozen layers no more for it."""
    made: list[int] = []
    activations = FrozenPrefix.activations

    def count(self: FrozenPrefix, inputs: torch.Tensor) -> torch.Tensor:
        made.append(len(inputs))
        return activations(self, inputs)

    options: dict[str, Any] = {"unfreeze": "layer4", "augmentation__kind": "none"}
    first = tune(**options)
    monkeypatch.setattr(FrozenPrefix, "activations", count)
    again = tune(**options)

    assert made == [2]  # the check whether the layers can be removed
    assert differing(tensors_of(first), tensors_of(again)) == set()


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_processes_that_share_a_gpu_are_refused(tune: Tune, device: str) -> None:
    """NCCL refuses two processes on one GPU, so this is an error before anything slow starts."""
    with pretended(device.partition(":")[0]), pytest.raises(ParamsError, match=r"found 2 processes on 1 GPU\(s\)"):
        tune(runtime={"device": device, "processes": 2})


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_a_part_is_filled_up_on_cuda_and_trains_the_same(
    tune: Tune, monkeypatch: pytest.MonkeyPatch, batch_norm: str
) -> None:
    """Parts of batches have one size on CUDA unless BatchNorm trains, which would count the copies. Weights agree."""
    monkeypatch.setattr(trainer.Trainer, "_choose", keep_the_last)
    sizes: list[int] = []
    loss = Stepper._loss

    def record(self: Stepper, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        module = self._module
        handle = module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
        try:
            return loss(self, inputs, target)
        finally:
            handle.remove()

    options: dict[str, Any] = {
        "batch": 12,
        "accumulate": 5,
        "batch_norm": batch_norm,
        "optimizer__kind": "sgd",
        "augmentation__kind": "crop",
    }
    cpu = tune(**options)
    monkeypatch.setattr(Stepper, "_loss", record)
    with pretended("cuda"):
        cuda = tune(runtime={"device": "cuda"}, **options)

    assert set(sizes) == ({3} if batch_norm == "frozen" else {2, 3})
    for name, values in tensors_of(cpu).items():
        np.testing.assert_allclose(tensors_of(cuda)[name], values, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_refused_operation_changes_nothing_but_is_said(
    tune: Tune, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operation without a repeatable kernel is found before the first step, and training then runs as without it."""
    monkeypatch.setattr(trainer.Trainer, "_choose", keep_the_last)
    options: dict[str, Any] = {"runtime": {"device": "cuda"}, "augmentation__mixup": 0.4, "batch_norm": "train"}
    with pretended("cuda"), monkeypatch.context() as patch:
        patch.setattr(Stepper, "rehearse", lambda *_: None)
        plain = tune(**options)
        plain.checkpoint.remove()
    cross_entropy = functional.cross_entropy

    def refuse(*given: Any, **named: Any) -> torch.Tensor:
        if is_strictly_repeatable():
            raise RuntimeError(REFUSAL)
        return cross_entropy(*given, **named)

    monkeypatch.setattr(functional, "cross_entropy", refuse)
    with pretended("cuda"):
        refused = tune(**options)

    assert capsys.readouterr().err.count("some_pool_backward_cuda has no repeatable kernel") == 1
    assert refused.history == plain.history
    assert differing(tensors_of(plain), tensors_of(refused)) == set()
