"""Several processes: torchrun starts them, and each knows its rank."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from stages.core.runtime import count_gpus
from stages.core.sections import RuntimeParams
from stages.core.tables import IndexRow

_MAX_RESTARTS = 3
_PATIENCE_DAYS = 7  # for the slowest machine


@dataclass(frozen=True)
class Rank:
    """This process among those that torchrun started.

    Attributes:
        rank: From 0.
        num_ranks: All of them, on all machines.
    """

    rank: int
    num_ranks: int

    def part(self, rows: Sequence[IndexRow]) -> list[IndexRow]:
        """Return the rows that are this rank's: by their digest, so that no rank need know what others have done."""
        return [row for row in rows if int(row.digest[:8], 16) % self.num_ranks == self.rank]


def this_rank() -> Rank | None:
    """Return this process's rank, or None if torchrun did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def wait_for_others(rank: Rank) -> None:
    """Wait until the ranks of the other machines are done too.

    torchrun starts a dead process again only together with the other machines, and a machine whose processes have all
    ended no longer takes part: the dead one would wait for it in vain.
    """
    if int(os.environ["GROUP_WORLD_SIZE"]) == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch: seconds

    patience = timedelta(days=_PATIENCE_DAYS)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=patience)
    store.set(f"done/{rank.rank}", "")
    store.wait([f"done/{other}" for other in range(rank.num_ranks)], patience)


def num_processes(runtime: RuntimeParams) -> int:
    """Return how many processes work on this machine: for `auto` one per GPU, one without any."""
    return max(1, count_gpus(runtime)) if runtime.processes == "auto" else runtime.processes


def run_processes(module: str, num: int) -> bool:
    """Run a module by several processes on this machine and wait for them; return whether they did it.

    torchrun starts all of them again when one dies, a few times.
    """
    options = ["--standalone", f"--nproc-per-node={num}", f"--max-restarts={_MAX_RESTARTS}"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", module]
    return subprocess.run(command, check=False).returncode == 0  # noqa: S603 - our own words
