"""Inputs of the layers that train, batch by batch: pictures, or cached activations of a frozen prefix."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.backbone.layers import Normalisation
from stages.finetune.frozen_prefix import FrozenPrefix
from stages.finetune.loader import Batch, Loader, even_batches
from stages.finetune.memory import ForwardPasses
from stages.finetune.ranks import Ranks
from stages.finetune.subsets import LabelledImage, Subsets


class Inputs(Protocol):
    """Gives the inputs of the classifier, on its device."""

    def prepare(self) -> None:
        """Compute what all batches need. Call it before the first batch, with the classifier in eval mode."""

    def training(self, batches: Sequence[Batch], epoch: int) -> Iterator[tuple[Batch, torch.Tensor]]:
        """Give batches of training images: their positions (B,) and inputs, float32 (B, ...)."""

    def validation(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """Give batches of the inner validation: their positions (B,) and inputs, float32 (B, views, ...)."""


def to_device(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy pixels, activations or classes to a device. A GPU continues to work on earlier batches during the copy."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def views_of(
    loader: Loader,
    normalise: Normalisation,
    images: Sequence[LabelledImage],
    batches: Sequence[Batch],
    device: torch.device,
) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Give batches of images without augmentation: positions (B,) and normalised pixels, float32 (B, views, 3, px, px).

    Args:
        loader: Loader of the images.
        normalise: Normalisation, on the device.
        images: All images from which the batches choose.
        batches: Positions of each batch.
        device: Device of the normalised pixels.
    """
    for batch, pixels in loader.views(images, batches):
        flat = normalise(to_device(pixels.reshape(-1, *pixels.shape[2:]), device))
        yield batch, flat.unflatten(0, pixels.shape[:2])


class Pictures:
    """Pictures, loaded again in every epoch.

    Args:
        loader: Loader of the images.
        normalise: Normalisation, on the device.
        subsets: Training images and inner validation.
        device: Device of the classifier.
    """

    def __init__(self, loader: Loader, normalise: Normalisation, subsets: Subsets, device: torch.device) -> None:
        self._loader, self._normalise, self._subsets, self._device = loader, normalise, subsets, device

    def prepare(self) -> None:
        """See `Inputs`."""

    def training(self, batches: Sequence[Batch], epoch: int) -> Iterator[tuple[Batch, torch.Tensor]]:
        """See `Inputs`."""
        for batch, pixels in self._loader.augmented(self._subsets.training, batches, epoch):
            yield batch, self._normalise(to_device(pixels, self._device))

    def validation(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """See `Inputs`."""
        yield from views_of(self._loader, self._normalise, self._subsets.validation, batches, self._device)


class Activations:
    """Activations of the frozen prefix, computed once and cached in files.

    The files are mapped into memory, so the operating system keeps them there while memory is free.

    Args:
        pictures: Inputs of the frozen prefix, without augmentation.
        prefix: Frozen prefix of the classifier's backbone. It is removed while activations are used.
        subsets: Training images and inner validation.
        passes: Forward passes of the frozen prefix.
        ranks: Processes that share the forward passes. Each has all activations, because batches are dealt anew in
            every epoch.
        batch: Number of images that are loaded at once.
        folder: Folder of the files, one for each rank.
        device: Device of the classifier.
    """

    def __init__(
        self,
        pictures: Pictures,
        prefix: FrozenPrefix,
        subsets: Subsets,
        *,
        passes: ForwardPasses,
        ranks: Ranks,
        batch: int,
        folder: Path,
        device: torch.device,
    ) -> None:
        self._pictures, self._prefix, self._passes, self._device = pictures, prefix, passes, device
        self._num_images = len(subsets.training), len(subsets.validation)
        self._ranks, self._batch, self._folder = ranks, batch, folder
        self._training: np.memmap | None = None
        self._validation: np.memmap | None = None

    def prepare(self) -> None:
        """See `Inputs`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        training, validation = (even_batches(np.arange(num), self._batch) for num in self._num_images)
        with self._prefix.put_back(), torch.inference_mode():
            pictures = self._pictures.training(self._ranks.turns(training), epoch=0)
            mine = ((at, _on_cpu(self._activations(inputs))) for at, inputs in pictures)
            parts = self._ranks.all_turns(mine, len(training))
            self._training = _cache(self._folder / "training.npy", self._num_images[0], parts)
            pictures = self._pictures.validation(self._ranks.turns(validation))
            mine = ((at, _on_cpu(self._by_view(inputs))) for at, inputs in pictures)
            parts = self._ranks.all_turns(mine, len(validation))
            self._validation = _cache(self._folder / "validation.npy", self._num_images[1], parts)

    def training(self, batches: Sequence[Batch], epoch: int) -> Iterator[tuple[Batch, torch.Tensor]]:  # noqa: ARG002
        """See `Inputs`."""
        return self._batches(self._training, batches)

    def validation(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """See `Inputs`."""
        return self._batches(self._validation, batches)

    def _batches(self, cached: np.memmap | None, batches: Sequence[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        for batch in batches:
            assert cached is not None, "there are images, because there is a batch"
            yield batch, to_device(cached[batch], self._device)

    def _activations(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._passes(self._prefix.activations, inputs)

    def _by_view(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the activations (B, views, ...) of inputs (B, views, ...)."""
        activations = self._activations(inputs.flatten(0, 1))
        return activations.reshape(*inputs.shape[:2], *activations.shape[1:])


def _on_cpu(activations: torch.Tensor) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = activations.float().cpu().numpy()
    return rows


def _cache(path: Path, num: int, batches: Iterator[tuple[Batch, NDArray[np.float32]]]) -> np.memmap | None:
    """Write the activations of `num` images to a file, as float32 (num, ...), and return it mapped into memory.

    Without images there is no file, and None is returned.
    """
    cached: np.memmap | None = None
    for batch, activations in batches:
        if cached is None:
            shape = (num, *activations.shape[1:])
            cached = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here; later it would be a crash
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        cached[batch] = activations
    return cached
