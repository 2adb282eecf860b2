"""Rivals: the tutorials' loops, on the GPU, as a user would run them there."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from benchmarks.rounds import seconds_of
from headstart.base.threads import num_cores

_NORMALISE = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
_PRESET = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *_NORMALISE])
_AUGMENTATION = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *_NORMALISE])


class Photos(Dataset[tuple[torch.Tensor, int]]):
    """Photos and their classes, as the tutorials load them."""

    def __init__(self, paths: Sequence[Path], transform: transforms.Compose) -> None:
        self._paths, self._transform = paths, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self._transform(default_loader(str(self._paths[number]))), number % 2


def extraction_rate(paths: Sequence[Path], network: nn.Module, device: str) -> float:
    """Return images/s of the tutorials' feature loop: a worker for each core, pinned memory, batches of 128 at most."""
    network = network.to(device)
    batch = max(1, min(128, len(paths) // (2 * num_cores())))  # so that every worker has work
    loader = _loader(Photos(paths, _PRESET), batch, device, shuffle=False)

    def run_epoch() -> None:
        with torch.no_grad():
            for inputs, _ in loader:
                network(inputs.to(device, non_blocking=True)).cpu().numpy()

    return _warm_rate(run_epoch, len(paths))


def training_rate(paths: Sequence[Path], network: nn.Module, device: str, batch: int, *, half: bool) -> float:
    """Return images/s of an epoch of the tutorial's training phase, with a worker for each core and pinned memory."""
    kind = torch.device(device).type
    network = network.to(device).train()
    head = nn.LazyLinear(2).to(device)
    loader = _loader(Photos(paths, _AUGMENTATION), batch, device, shuffle=True)
    optimizer: torch.optim.Optimizer | None = None

    def run_epoch() -> None:
        nonlocal optimizer
        for inputs, numbers in loader:
            labels = numbers.to(device, non_blocking=True)
            with torch.autocast(kind, torch.bfloat16, enabled=half):
                outputs = head(network(inputs.to(device, non_blocking=True)).flatten(1))
                loss = nn.functional.cross_entropy(outputs, labels)
            if optimizer is None:  # the head knows its width now
                optimizer = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.001, momentum=0.9)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            float(loss.item())

    return _warm_rate(run_epoch, len(paths))


def _loader(photos: Photos, batch: int, device: str, *, shuffle: bool) -> DataLoader[tuple[torch.Tensor, int]]:
    return DataLoader(
        photos,
        batch_size=batch,
        shuffle=shuffle,
        num_workers=num_cores(),
        pin_memory=torch.device(device).type == "cuda",
        persistent_workers=True,
    )


def _warm_rate(run_epoch: Callable[[], None], num_images: int) -> float:
    """Return images/s of a second epoch: the start of the workers and of the GPU does not count.

    The whole epoch counts. All workers end their first batches at about the same time, so a clock that started at the
    first batch would see twice the rate if each worker had two.
    """
    run_epoch()
    return num_images / seconds_of(run_epoch)
