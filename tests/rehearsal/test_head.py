"""The head on a pretended device: the CPU's probabilities, rows that go up once, few waits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from scipy.special import softmax

from headstart.artifacts.features import open_features
from headstart.base.machine import is_strictly_repeatable
from headstart.tables.split import SplitRow
from stages.head.params import Params
from stages.head.train import TrainedHead, train_head
from tests.rehearsal.state import Device
from tests.support.head_data import digests_of, write_features
from tests.support.source import ROOT

NUM, NUM_TRAINING, NUM_CLASSES, DIM = 400, 320, 4, 24


def head_of(folder: Path, device: str, **changes: Any) -> TrainedHead:
    """Train the head of overlapping clusters on a device."""
    random = np.random.default_rng(0)
    classes = np.arange(NUM) % NUM_CLASSES
    x = (0.6 * random.normal(size=(NUM_CLASSES, DIM))[classes] + random.normal(size=(NUM, DIM))).astype(np.float32)
    digests, path = digests_of(NUM), folder / "features.h5"
    if not path.exists():
        write_features(path, digests, {"last": x})
    split = [
        SplitRow(digest, f"{number}.png", f"class {label}", "train" if number < NUM_TRAINING else "test", digest)
        for number, (digest, label) in enumerate(zip(digests, classes, strict=True))
    ]
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    head = {"kind": "logistic", "folds": 3, "c_grid": [0.01, 1.0]} | changes
    params = Params(
        head=content["head"] | head, runtime=content["runtime"] | {"workers": 2, "device": device, "memory": 2**30}
    )
    with open_features(path) as features:
        return train_head(features, split, [f"class {number}" for number in range(NUM_CLASSES)], "0" * 64, params)


@pytest.fixture(autouse=True)
def _many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any number of rows for a large one, on which a GPU is worth it."""
    monkeypatch.setattr("headstart.linear.design._LARGE", 0)


def rows_up(device: Device) -> int:
    """Return the number of rows of embeddings, of whatever precision, that were copied up, in blocks of many.

    Models and matrices of the columns have as many columns, but fewer rows.
    """
    copies = [copy for copy in device.log.up if copy.dtype.is_floating_point and copy.shape[1:] == (DIM,)]
    return sum(copy.shape[0] for copy in copies if copy.shape[0] > DIM)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["logistic", "auto"])
def test_a_gpu_gives_the_head_of_the_cpu(tmp_path: Path, cuda: Device, kind: str) -> None:
    """The head of a GPU chooses the same strength, and its probabilities differ by less than 1e-4."""
    mine, cpu = head_of(tmp_path, "cuda", kind=kind), head_of(tmp_path, "cpu", kind=kind)
    assert rows_up(cuda) > 0
    assert mine.fitted.score.c == cpu.fitted.score.c
    for mine_logits, cpu_logits in (
        (mine.predictions.logits, cpu.predictions.logits),
        (mine.out_of_fold.logits, cpu.out_of_fold.logits),
    ):
        assert np.abs(softmax(mine_logits, axis=1) - softmax(cpu_logits, axis=1)).max() < 1e-4


@pytest.mark.slow
def test_rows_go_up_once(tmp_path: Path, cuda: Device) -> None:
    """All fits share the rows on the GPU: those of the folds at every strength, and the last one on all rows."""
    head_of(tmp_path, "cuda")
    assert rows_up(cuda) == NUM_TRAINING


@pytest.mark.slow
def test_a_pass_waits_six_times_at_most(tmp_path: Path, cuda: Device) -> None:
    """Each pass of the solver waits when the weights go up and when the sums come down; so do both its quotients."""
    head_of(tmp_path, "cuda")
    passes = max(cuda.log.computed[name] for name in ("logsumexp", "log_softmax", "cross_entropy"))
    assert passes
    assert len(cuda.log.waits) <= 6 * passes + 60
    assert cuda.log.computed["linalg_solve_triangular"] >= passes  # a pass without a fold is of two pieces
    assert cuda.log.computed["linalg_cholesky"]


def test_an_apple_gpu_leaves_the_head_to_the_cpu(tmp_path: Path, mps: Device) -> None:
    """MPS has no float64, so the head computes on the CPU, to the bit."""
    mine, cpu = head_of(tmp_path, "auto"), head_of(tmp_path, "cpu")
    assert np.array_equal(mine.bundle.weight, cpu.bundle.weight)
    assert np.array_equal(mine.predictions.logits, cpu.predictions.logits)
    assert not mps.log.computed


def test_an_operation_without_a_repeatable_kernel_is_named(
    tmp_path: Path, cuda: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head is strictly repeatable until torch refuses an operation; a line names it, and the GPU goes on."""
    plain = head_of(tmp_path, "cuda")

    def refuse(name: str, _: Sequence[torch.Tensor]) -> Exception | None:
        refused = name == "logsumexp" and is_strictly_repeatable()
        return RuntimeError("some_kernel_cuda does not have a deterministic implementation, but") if refused else None

    cuda.failures.append(refuse)
    refused = head_of(tmp_path, "cuda")
    assert capsys.readouterr().err.count("some_kernel_cuda has no repeatable kernel") == 1
    assert np.array_equal(refused.bundle.weight, plain.bundle.weight)


@pytest.mark.parametrize("names", [("to",), ("addmm", "matmul", "mm", "__matmul__")])
def test_the_cpu_takes_over_if_memory_ends(
    tmp_path: Path, cuda: Device, capsys: pytest.CaptureFixture[str], names: tuple[str, ...]
) -> None:
    """Out of memory, while rows go up or while they are computed with, the CPU goes on, and a line says so."""
    cpu = head_of(tmp_path, "cpu")
    cuda.failures.append(lambda name, _: torch.OutOfMemoryError("CUDA out of memory.") if name in names else None)
    mine = head_of(tmp_path, "cuda")
    assert "memory" in "".join(capsys.readouterr())
    assert np.abs(softmax(mine.predictions.logits, axis=1) - softmax(cpu.predictions.logits, axis=1)).max() < 1e-4
