"""Ranks: processes that train one classifier together, each on its share of every batch."""

from types import TracebackType

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from headstart.base.errors import ParamsError
from headstart.base.machine import Rank
from stages.finetune.freeze import has_batch_norm
from stages.finetune.loader import Batch


class Ranks:
    """The process group, for a `with` block.

    Attributes:
        rank: This process.

    Args:
        rank: As torchrun started it.
        device: This process's.
    """

    def __init__(self, rank: Rank, device: torch.device) -> None:
        self.rank, self._device = rank, device

    def __enter__(self) -> "Ranks":
        if self.rank.num_ranks > 1:
            distributed.init_process_group("nccl" if self._device.type == "cuda" else "gloo")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.rank.num_ranks > 1:
            distributed.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank.rank == 0

    def share(self, batch: Batch) -> Batch:
        """Return this rank's part of a batch."""
        return batch[self.rank.rank :: self.rank.num_ranks]

    def synchronise(self, classifier: nn.Module) -> None:
        """Let BatchNorm see the images of all ranks, where it is to follow the batches.

        Raises:
            ParamsError: torch cannot do this here, so that the result would depend on the number of ranks.
        """
        if self.rank.num_ranks == 1 or not has_batch_norm(classifier):
            return
        if self._device.type != "cuda":
            raise ParamsError(
                "finetune.batch_norm: train needs GPUs where several processes train together (torch synchronises "
                "BatchNorm there only); expected frozen, or runtime.processes 1"
            )
        from timm.layers import convert_sync_batchnorm  # knows timm's own kinds

        convert_sync_batchnorm(classifier)  # type: ignore[no-untyped-call]

    def wrap(self, classifier: nn.Module) -> nn.Module:
        """Return the classifier so that gradients are averaged over the ranks."""
        if self.rank.num_ranks == 1:
            return classifier
        ids = [self._device.index] if self._device.type == "cuda" else None
        return DistributedDataParallel(classifier, device_ids=ids)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over the ranks."""
        if self.rank.num_ranks > 1:
            distributed.all_reduce(tensor)
        return tensor
