"""Ranks for rehearsals: processes as torchrun starts them, each on its own pretended CUDA device.

All of them are forked from one process that has imported torch, because importing it takes seconds.
"""

import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support.source import ROOT

_SECONDS = 40  # in which all ranks end


@dataclass(frozen=True)
class RankResult:
    """How a rank ended.

    Attributes:
        value: What its function returned; None if it raised an error.
        error: Its stack trace; empty if there was no error.
        collectives: Collective operations that it asked for.
        backends: Backends of its process groups.
        chosen: Devices that it chose with `torch.cuda.set_device`.
    """

    value: Any = None
    error: str = ""
    collectives: Sequence[str] = field(default_factory=list)
    backends: Sequence[str] = field(default_factory=list)
    chosen: Sequence[int] = field(default_factory=list)


def run_ranks(num: int, function: Callable[..., Any], *given: Any) -> list[RankResult]:
    """Call a function in several ranks of one machine, and return how each of them ended.

    Args:
        num: Number of ranks, and of devices.
        function: Function of a module, called with the rank and what is given.
        given: Further arguments.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([getattr(function, "func", function).__module__])
    results: SimpleQueue[tuple[int, RankResult]] = context.SimpleQueue()
    with mock.patch.dict(os.environ, _environment(num, _free_port())):
        processes = [
            context.Process(target=_work, args=(results, dict(os.environ), Path.cwd(), rank, function, given))
            for rank in range(num)
        ]
        for process in processes:
            process.start()
    deadline = time.monotonic() + _SECONDS
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
    ends = ["hangs" if process.is_alive() else "died" for process in processes]
    found = {rank: RankResult(error=end) for rank, end in enumerate(ends)}
    for process in processes:
        process.kill()
        process.join()
    while not results.empty():
        rank, result = results.get()
        found[rank] = result
    return [found[rank] for rank in range(num)]


def _environment(num: int, port: int) -> dict[str, str]:
    """Return what torchrun sets for every rank, and where the process that forks them finds this project."""
    return {
        "PYTHONPATH": str(ROOT),
        "WORLD_SIZE": str(num),
        "LOCAL_WORLD_SIZE": str(num),
        "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "rehearsal",
    }


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _work(
    results: "SimpleQueue[tuple[int, RankResult]]",
    environment: Mapping[str, str],
    folder: Path,
    rank: int,
    function: Callable[..., Any],
    given: Sequence[Any],
) -> None:
    from tests.rehearsal.device import pretended

    os.environ |= {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.chdir(folder)
    with pretended("cuda", count=int(environment["WORLD_SIZE"])) as device:
        value, error = None, ""
        try:
            value = function(rank, *given)
        except BaseException:  # noqa: BLE001 - whatever ends a rank is its result
            error = traceback.format_exc()
        log = device.log
        results.put((rank, RankResult(value, error, log.collectives, log.backends, log.chosen)))
