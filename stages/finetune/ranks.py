"""Ranks: the processes that train one classifier together, each on its share of every batch."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from headstart.base.errors import ParamsError
from headstart.base.machine import Rank, RuntimeParams, count_gpus
from stages.finetune.loader import Batch
from stages.finetune.trainable_layers import has_batch_norm

Value = TypeVar("Value")


class Ranks:
    """The group of processes that train together. Use it in a `with` block.

    Attributes:
        rank: Rank of this process.

    Args:
        rank: Rank of this process.
        device: Device of this process.
    """

    def __init__(self, rank: Rank, device: torch.device) -> None:
        self.rank, self._device = rank, device

    def __enter__(self) -> "Ranks":
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # what torch makes without the name of a device lies there too
        if self.rank.num_ranks > 1:
            if self._device.type == "cuda":
                distributed.init_process_group("nccl", device_id=self._device)
            else:
                distributed.init_process_group("gloo")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error the other ranks may never come to the same point, and this one would wait for them.
        if self.rank.num_ranks > 1 and error is None:
            distributed.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process is the first one, which writes and prints."""
        return self.rank.rank == 0

    def share(self, batch: Batch) -> Batch:
        """Return the share of this rank of a batch."""
        return batch[self.rank.rank :: self.rank.num_ranks]

    def synchronise(self, classifier: nn.Module) -> None:
        """Make BatchNorm compute its statistics on the images of all ranks.

        Raises:
            ParamsError: torch cannot do this on this device, so the result would depend on the number of ranks.
        """
        if self.rank.num_ranks == 1 or not has_batch_norm(classifier):
            return
        if self._device.type != "cuda":
            raise ParamsError(
                "finetune.batch_norm: train needs GPUs if several processes train together, because torch synchronises "
                f"BatchNorm only there; found {self.rank.num_ranks} processes on {self._device.type}. Set "
                "finetune.batch_norm to frozen, or runtime.processes to 1"
            )
        from timm.layers import convert_sync_batchnorm  # torch's own function does not know timm's layers

        convert_sync_batchnorm(classifier)  # type: ignore[no-untyped-call]

    def wrap(self, classifier: nn.Module) -> nn.Module:
        """Return a wrapped classifier whose gradients are averaged over the ranks."""
        if self.rank.num_ranks == 1:
            return classifier
        ids = [self._device.index] if self._device.type == "cuda" else None
        return DistributedDataParallel(classifier, device_ids=ids)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over the ranks. Both are on the CPU, so that float64 is possible everywhere."""
        if self.rank.num_ranks == 1:
            return tensor
        # NCCL adds tensors on GPUs, gloo those on the CPU.
        mine = tensor.to(self._device) if self._device.type == "cuda" else tensor
        distributed.all_reduce(mine)
        return mine.cpu()

    def from_first(self, value: Value) -> Value:
        """Return the value of the first rank; its tensors are on the CPU. What the others have plays no part."""
        return self._from(0, value)

    def turns(self, items: Sequence[Value]) -> Sequence[Value]:
        """Return the items that are this rank's turn: the first of them is the first rank's, and so on."""
        return items[self.rank.rank :: self.rank.num_ranks]

    def all_turns(self, mine: Iterator[Value], num: int) -> Iterator[Value]:
        """Give what the ranks have made of `num` items, in order, as soon as each rank has made another one.

        Args:
            mine: What this rank makes of its turns, in order; its tensors are on the CPU.
            num: Number of items of all ranks.
        """
        num_ranks = self.rank.num_ranks
        for start in range(0, num, num_ranks):
            made = next(mine, None)  # while the others make theirs
            for owner in range(min(num_ranks, num - start)):
                value = self._from(owner, made)
                assert value is not None, "its owner has made it"
                yield value
        next(mine, None)  # lets it end, so that it keeps what it has loaded

    def _from(self, owner: int, value: Value) -> Value:
        """Return the value of one rank."""
        if self.rank.num_ranks == 1:
            return value
        values, device = [value], self._device if self._device.type == "cuda" else None
        distributed.broadcast_object_list(values, src=owner, device=device)
        return values[0]


def check_gpus(runtime: RuntimeParams, device: torch.device, num: int) -> None:
    """Check that each process that trains on this machine has a GPU of its own, as NCCL requires.

    Args:
        runtime: Params of the machine.
        device: Device of this process.
        num: Number of processes on this machine.

    Raises:
        ParamsError: There are more processes than GPUs.
    """
    num_gpus = max(1, count_gpus(runtime))
    if device.type != "cpu" and num > num_gpus:
        raise ParamsError(
            f"runtime.processes: found {num} processes on {num_gpus} GPU(s); expected at most {num_gpus}, because each "
            "process that trains needs a GPU of its own. Set runtime.processes to auto"
        )
