"""Inputs: what the layers that train are given, batch by batch: pictures, or kept activations of a frozen prefix."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.backbone.normalise import Normalisation
from stages.finetune.frozen_prefix import FrozenPrefix
from stages.finetune.loader import Batch, Loader, even_batches
from stages.finetune.subsets import Image, Images


class Inputs(Protocol):
    """Gives the classifier's inputs, on its device."""

    def training(self, batches: Sequence[Batch], epoch: int) -> Iterator[tuple[Batch, torch.Tensor]]:
        """Give batches of training images: positions (B,), inputs (B, ...)."""

    def validation(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """Give batches of the inner validation: positions (B,), inputs (B, views, ...)."""


def to_device(pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Copy pixels to a device; to a GPU while it works on what came before."""
    tensor = torch.from_numpy(pixels)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def views_of(
    loader: Loader, normalise: Normalisation, images: Sequence[Image], batches: Sequence[Batch], device: torch.device
) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Give batches of images without chance: positions (B,), normalised (B, views, 3, px, px)."""
    for batch, pixels in loader.views(images, batches):
        flat = normalise(to_device(pixels.reshape(-1, *pixels.shape[2:]), device))
        yield batch, flat.unflatten(0, pixels.shape[:2])


class Pictures:
    """Inputs that are loaded in every epoch.

    Args:
        loader: Loader of both parts.
        normalise: Normalisation, on the device.
        images: All parts.
        device: The classifier's.
    """

    def __init__(self, loader: Loader, normalise: Normalisation, images: Images, device: torch.device) -> None:
        self._loader, self._normalise, self._images, self._device = loader, normalise, images, device

    def training(self, batches: Sequence[Batch], epoch: int) -> Iterator[tuple[Batch, torch.Tensor]]:
        """See `Inputs`."""
        for batch, pixels in self._loader.augmented(self._images.training, batches, epoch):
            yield batch, self._normalise(to_device(pixels, self._device))

    def validation(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """See `Inputs`."""
        yield from views_of(self._loader, self._normalise, self._images.validation, batches, self._device)


class Activations:
    """Inputs that the frozen prefix has made once, kept on disk (in the system's cache, if that has room).

    Args:
        pictures: What the frozen prefix is given; without augmentation.
        prefix: Frozen prefix of the classifier's backbone, which is in eval mode.
        images: All parts.
        batch: Images that go through the frozen prefix at once.
        folder: Where to keep them.
        device: The classifier's.
    """

    def __init__(
        self,
        pictures: Pictures,
        prefix: FrozenPrefix,
        images: Images,
        *,
        batch: int,
        folder: Path,
        device: torch.device,
    ) -> None:
        self._device = device
        num_images = len(images.training), len(images.validation)
        parts = [even_batches(np.arange(num), batch) for num in num_images]
        with torch.inference_mode():
            self._training = _keep(
                folder / "training.npy",
                num_images[0],
                ((at, prefix.activations(inputs)) for at, inputs in pictures.training(parts[0], epoch=0)),
            )
            self._validation = _keep(
                folder / "validation.npy",
                num_images[1],
                ((at, _by_view(prefix, inputs)) for at, inputs in pictures.validation(parts[1])),
            )

    def training(self, batches: Sequence[Batch], epoch: int) -> Iterator[tuple[Batch, torch.Tensor]]:  # noqa: ARG002
        """See `Inputs`."""
        return self._batches(self._training, batches)

    def validation(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """See `Inputs`."""
        return self._batches(self._validation, batches)

    def _batches(self, kept: np.memmap, batches: Sequence[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        for batch in batches:
            yield batch, torch.from_numpy(kept[batch]).to(self._device)


def _by_view(prefix: FrozenPrefix, inputs: torch.Tensor) -> torch.Tensor:
    made = prefix.activations(inputs.flatten(0, 1))
    return made.reshape(*inputs.shape[:2], *made.shape[1:])


def _keep(path: Path, num: int, made: Iterator[tuple[Batch, torch.Tensor]]) -> np.memmap:
    kept: np.memmap | None = None
    for batch, activations in made:
        if kept is None:
            shape = (num, *activations.shape[1:])
            kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, later a crash without a word
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        kept[batch] = activations.float().cpu().numpy()
    assert kept is not None, "there are images"
    return kept
