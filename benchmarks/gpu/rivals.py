"""Rivals: the tutorials' loops, on the GPU, as a user would run them there."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

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


def extraction_rate(paths: Sequence[Path], network: nn.Module, device: str, *, half: bool) -> float:
    """Return images/s of the tutorials' feature loop: a worker for each core, pinned memory, batches of 128 at most."""
    network = network.to(device)
    loader = DataLoader(
        Photos(paths, _PRESET),
        batch_size=min(128, len(paths) // 2),
        num_workers=num_cores(),
        pin_memory=torch.device(device).type == "cuda",
    )
    rate = _Rate()
    with torch.no_grad(), torch.autocast(torch.device(device).type, torch.float16, enabled=half):
        for inputs, _ in loader:
            network(inputs.to(device, non_blocking=True)).float().cpu().numpy()
            rate.add(len(inputs))
    return rate.images_per_second


def training_rate(paths: Sequence[Path], network: nn.Module, device: str, batch: int, *, half: bool) -> float:
    """Return images/s of an epoch of the tutorial's training phase, with a worker for each core and pinned memory."""
    kind = torch.device(device).type
    network = network.to(device).train()
    head = nn.LazyLinear(2).to(device)
    loader = DataLoader(
        Photos(paths, _AUGMENTATION), batch_size=batch, shuffle=True, num_workers=num_cores(), pin_memory=kind == "cuda"
    )
    optimizer: torch.optim.Optimizer | None = None
    rate = _Rate()
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
        rate.add(len(inputs))
    return rate.images_per_second


class _Rate:
    """Images/s from the end of the first batch on: the start of the workers and of the GPU does not count."""

    def __init__(self) -> None:
        self._start, self._end, self._num = 0.0, 0.0, 0

    def add(self, num: int) -> None:
        self._end = time.perf_counter()
        if self._start:
            self._num += num
        else:
            self._start = self._end

    @property
    def images_per_second(self) -> float:
        return self._num / (self._end - self._start)
