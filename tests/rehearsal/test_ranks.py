"""Several GPUs on pretended devices: the results of one process, and an end for all if one fails."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from headstart.artifacts.features import open_features
from headstart.backbone.params import BackboneParams
from headstart.base.errors import HeadstartError, ParamsError
from headstart.base.launch import run_processes
from stages.extract.extraction import extract
from stages.finetune.frozen_prefix import FrozenPrefix
from stages.finetune.history import Epoch
from stages.finetune.run import fine_tune
from tests.conftest import extract_params, index_of
from tests.rehearsal.device import more_pictures_than, pretended
from tests.rehearsal.outcome import SHORT, assert_same
from tests.rehearsal.ranks import run_ranks
from tests.rehearsal.state import active
from tests.support.finetuning import CLASSES, Tune, finetune_params, rows_of

BACKENDS = ["nccl", "cpu:gloo,cuda:nccl"]


def train_rank(
    rank: int,
    backbone: BackboneParams,
    changes: dict[str, Any],
    *,
    faulty: int | None = None,
    elsewhere: int | None = None,
) -> list[float | None]:
    """Train as one rank does, in the folder of the project, and return its training losses.

    The rank `faulty` has no memory for a picture. The rank `elsewhere` is on a machine that does not see the
    checkpoints of the others.
    """
    if rank == faulty:
        active().failures.append(more_pictures_than(0))
    if rank == elsewhere:
        os.environ["DVC_ROOT"] = str(Path("elsewhere").absolute())
    index, split = rows_of(Path())
    history: list[float | None] = []
    params = finetune_params(Path("photos").absolute(), backbone, {"device": "cuda", "processes": "auto"}, **changes)
    with open_features(Path("features.h5")) as features:
        fine_tune(
            features,
            index,
            split,
            classes=CLASSES,
            split_sha256="s",
            params=params,
            watch=lambda epochs: history.append(epochs[-1].training_loss),
        )
    return history


@pytest.mark.slow
@pytest.mark.parametrize(("num", "batch"), [(2, 4), (3, 5)])
def test_several_gpus_give_the_result_of_one(tune: Tune, tiny_backbone: BackboneParams, num: int, batch: int) -> None:
    """Two or three ranks, which share batches unequally, train the weights of one process, which then predicts."""
    changes = SHORT | {"batch": batch, "epochs": 2}
    with pretended("cuda"):
        alone = tune(runtime={"device": "cuda"}, **changes)
        alone.checkpoint.remove()
        ranks = run_ranks(num, train_rank, tiny_backbone, changes)
        assert [rank.error for rank in ranks] == [""] * num
        together = tune(runtime={"device": "cuda"}, **changes)
    assert together.timings.num_images == 0
    assert_same(together, alone)
    assert len(ranks[0].value) == 3
    for number, rank in enumerate(ranks):
        assert rank.backends in [[name] for name in BACKENDS], f"rank {number}"
        assert "all_reduce" in rank.collectives, f"rank {number}"


@contextmanager
def prefix_passes() -> Iterator[list[int]]:
    """Give a list that gets the number of pictures of each pass through the frozen prefix."""
    passes: list[int] = []
    activations = FrozenPrefix.activations

    def counted(prefix: FrozenPrefix, inputs: torch.Tensor) -> torch.Tensor:
        passes.append(len(inputs))
        return activations(prefix, inputs)

    with mock.patch.object(FrozenPrefix, "activations", counted):
        yield passes


def passes_of_rank(rank: int, backbone: BackboneParams, changes: dict[str, Any]) -> int:
    """Train as one rank does, and return the number of passes through the frozen prefix."""
    with prefix_passes() as passes:
        train_rank(rank, backbone, changes)
    return len(passes)


@pytest.mark.slow
@pytest.mark.parametrize("num", [2, 3])
def test_ranks_share_the_frozen_prefix(tune: Tune, tiny_backbone: BackboneParams, num: int) -> None:
    """Each rank computes its part of the activations and gets the others'; the weights are those of one process."""
    changes = {"unfreeze": "layer4", "augmentation__kind": "none", "batch": 3, "epochs": 1, "init": "random"}
    with pretended("cuda"):
        with prefix_passes() as passes:
            alone = tune(runtime={"device": "cuda"}, **changes)
        alone.checkpoint.remove()
        ranks = run_ranks(num, passes_of_rank, tiny_backbone, changes)
        assert [rank.error for rank in ranks] == [""] * num
        together = tune(runtime={"device": "cuda"}, **changes)
    assert together.has_frozen_prefix
    assert_same(together, alone)
    finding = 1  # pass, in every process
    shares = [rank.value - finding for rank in ranks]
    assert sum(shares) == len(passes) - finding
    assert max(shares) - min(shares) <= 2  # one for the training images, one for the validation


@pytest.mark.slow
@pytest.mark.usefixtures("finetune_project")
def test_each_rank_chooses_its_gpu(tiny_backbone: BackboneParams) -> None:
    """What names no device, such as a barrier of NCCL, goes to the rank's own GPU, not to the first one of the machine.

    The ranks end early, because one of them has no memory.
    """
    ranks = run_ranks(2, partial(train_rank, faulty=0), tiny_backbone, SHORT)
    assert [set(rank.chosen) for rank in ranks] == [{0}, {1}]


@pytest.mark.slow
def test_all_ranks_continue_from_the_first_ones_checkpoint(tune: Tune, tiny_backbone: BackboneParams) -> None:
    """Ranks on a machine that does not see the checkpoint continue with the others, after the same epoch."""

    def kill(history: Sequence[Epoch]) -> None:
        if history[-1].epoch == 1:
            raise KeyboardInterrupt

    changes = SHORT | {"epochs": 2}
    with pretended("cuda"), pytest.raises(KeyboardInterrupt):
        tune(watch=kill, runtime={"device": "cuda"}, **changes)
    ranks = run_ranks(2, partial(train_rank, elsewhere=1), tiny_backbone, changes)
    assert [rank.error for rank in ranks] == ["", ""]
    assert len(ranks[0].value) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("finetune_project")
def test_an_error_of_one_rank_ends_all(tiny_backbone: BackboneParams) -> None:
    """A rank without memory ends with its own error, without waiting for the others, and these end too."""
    ranks = run_ranks(2, partial(train_rank, faulty=1), tiny_backbone, SHORT)
    assert "TrainingError" in ranks[1].error
    assert "HangError" not in ranks[1].error
    assert ranks[0].error not in ("", "hangs")


STARTS = """
from pathlib import Path
from headstart.base.entry import run_main
from headstart.base.errors import ParamsError


def main() -> None:
    with Path("starts").open("a") as file:
        file.write("start\\n")
    raise ParamsError("finetune.batch: found 1; expected at least 2")


if __name__ == "__main__":
    run_main("finetune", main)
"""


@pytest.mark.slow
def test_an_error_of_ours_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that end with an error that trying again cannot mend, such as wrong params, start once."""
    (tmp_path / "faulty_rank.py").write_text(STARTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    with pytest.raises(HeadstartError, match="found 1; expected at least 2"):
        run_processes("faulty_rank", 2)
    assert len((tmp_path / "starts").read_text().splitlines()) <= 2


@pytest.mark.slow
def test_nccl_refuses_two_processes_on_one_gpu(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fine-tuning with more processes than GPUs is an error before anything starts, because NCCL refuses it."""
    monkeypatch.setattr("stages.finetune.run.run_processes", lambda *_: pytest.fail("processes were started"))
    with pretended("cuda"), pytest.raises(ParamsError, match=r"runtime\.processes"):
        tune(runtime={"device": "cuda", "processes": 2})


@pytest.mark.slow
def test_little_work_starts_no_processes(
    tune: Tune, finetune_project: Path, tiny_backbone: BackboneParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `processes: auto` a few images are embedded and trained by one process, however many GPUs there are."""
    for module in ("stages.finetune.run", "stages.extract.extraction"):
        monkeypatch.setattr(f"{module}.run_processes", lambda *_: pytest.fail("processes were started"))
    photos = finetune_project / "photos"
    with pretended("cuda", count=8):
        params = extract_params(photos, tiny_backbone, runtime={"device": "auto", "processes": "auto"})
        extract(index_of(photos), params, Path("more.h5"), Path("more"))
        assert tune(runtime={"device": "auto", "processes": "auto"}, **SHORT).device == "cuda:0"
