"""Processes that train together: what they share, and networks with parameters that nothing uses."""

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from headstart.artifacts.features import open_features
from headstart.backbone.build import build_backbone
from headstart.backbone.params import BackboneParams
from headstart.backbone.source import Backbone
from headstart.base.machine import Rank
from stages.finetune.checkpoint import Checkpoint
from stages.finetune.params import Params
from stages.finetune.ranks import Ranks
from stages.finetune.run import FinetuneRun
from tests.support.finetuning import CLASSES, Tune, finetune_params, rows_of, tensors_of
from tests.unit.stages.test_finetune import keep_the_last

UNUSED = "never_used"


def start_rank(rank: int, port: str) -> None:
    """Make this process a rank of two, as torchrun does."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)


def spawn(function: Any, *given: Any) -> None:
    """Call a function in two processes with their rank, arguments and a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    multiprocessing.spawn(function, (*given, port), nprocs=2)  # type: ignore[attr-defined]


def share_values(rank: int, port: str) -> None:
    """Check what two ranks share, and that an error of one does not make it wait for the other."""
    start_rank(rank, port)
    ranks = Ranks(Rank(rank, 2), torch.device("cpu"))
    try:
        with ranks:
            total = ranks.sum(torch.tensor([0.1, rank], dtype=torch.float64))
            assert total.tolist() == [0.2, 1.0]
            state: dict[str, Any] = {"history": [rank], "tensor": torch.full((2,), float(rank))}
            given = ranks.from_first(state if rank == 0 else None)
            assert given is not None
            assert (given["history"], given["tensor"].tolist()) == ([0], [0.0, 0.0])
            {0: "fine"}[rank]  # an error of the other rank
    except KeyError:
        assert distributed.is_initialized()
    else:
        assert not distributed.is_initialized()


@pytest.mark.slow
def test_ranks_add_and_share_values() -> None:
    """Sums are exact to float64, the first rank's value counts for all, and only a success ends the group."""
    spawn(share_values)


def test_one_rank_shares_with_nobody() -> None:
    """A single process gets its own values back, and no group of processes starts."""
    with Ranks(Rank(0, 1), torch.device("cpu")) as ranks:
        state = {"epoch": 3}
        assert ranks.from_first(state) is state
        assert ranks.sum(torch.tensor(2.0)).item() == 2.0
        assert not distributed.is_initialized()


def with_an_unused_parameter(patch: pytest.MonkeyPatch) -> None:
    """Give every backbone a parameter that its forward pass does not use, as some networks have."""

    def build_with_more(params: BackboneParams) -> Backbone:
        backbone = build_backbone(params)
        backbone.network.register_parameter(UNUSED, nn.Parameter(torch.ones(3, 3)))
        return backbone

    patch.setattr("stages.finetune.training.build_backbone", build_with_more)


def train_rank(rank: int, folder: str, params: Params, port: str) -> None:
    """Train as one of two processes, of which only the first one sees the checkpoint."""
    os.chdir(folder)
    start_rank(rank, port)
    patch = pytest.MonkeyPatch()
    with_an_unused_parameter(patch)
    patch.setattr("stages.finetune.trainer.Trainer._choose", keep_the_last)
    if rank:
        patch.setattr(Checkpoint, "load", lambda _: pytest.fail("only the first rank reads the checkpoint"))
    index, split = rows_of(Path(folder))
    epochs: list[int] = []
    with open_features(Path("features.h5")) as features:
        run = FinetuneRun(features, index, split, classes=CLASSES, split_sha256="s", params=params)
        run.train(Rank(rank, 2), lambda history: epochs.append(history[-1].epoch), predict=False)
    assert epochs == ([] if rank else [2])


@pytest.mark.slow
def test_ranks_start_from_the_first_ones_checkpoint_whatever_nothing_uses(
    tune: Tune, finetune_project: Path, tiny_backbone: BackboneParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks, of which one sees no checkpoint, continue together; a parameter that nothing uses stays as it was."""
    with_an_unused_parameter(monkeypatch)
    monkeypatch.setattr("stages.finetune.trainer.Trainer._choose", keep_the_last)
    options: dict[str, Any] = {"batch": 5, "optimizer__kind": "sgd", "augmentation__kind": "crop"}
    alone = tune(**options)
    alone.checkpoint.remove()

    def die_after_one(history: Any) -> None:
        if history[-1].epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(die_after_one, **options)
    spawn(train_rank, str(finetune_project), finetune_params(finetune_project / "photos", tiny_backbone, **options))
    together = tune(**options)

    assert (together.bundle.backbone[UNUSED] == 1).all()
    for name, values in tensors_of(alone).items():
        np.testing.assert_allclose(tensors_of(together)[name], values, rtol=1e-3, atol=1e-5, err_msg=name)
