"""The torch engine: runs every network, on any device."""

import threading

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.features import Rows
from headstart.backbone.layers import EmbeddingNetwork
from headstart.base.errors import BackboneError
from headstart.engines.engine import fill_up
from headstart.imaging.clock import Clock

DEFAULT_BATCH = {"cpu": 32, "mps": 32, "cuda": 128}


class TorchEngine:
    """A network on a device, one forward pass at a time.

    See `Engine`. If the device runs out of memory, the batch is halved and stays so.

    Args:
        network: Frozen network. The engine moves it to the device.
        device: Name of the device, such as `cpu` or `cuda:0`.
        batch: Pictures in a forward pass; None for the device's default.
        precision: Type of the returned numbers. With `float16` a GPU also computes in half precision.
        clock: Clock that counts the seconds of the forward passes.
    """

    name = "torch"
    num_parallel = 1

    def __init__(self, network: EmbeddingNetwork, device: str, batch: int | None, precision: str, clock: Clock) -> None:
        self._device = torch.device(device)
        self.batch = batch or DEFAULT_BATCH[self._device.type]
        self.dims = network.dims
        self._dtype = np.dtype(precision)
        self._autocast = precision == "float16" and self._device.type == "cuda"
        self._clock, self._lock = clock, threading.Lock()
        try:
            self._network = network.to(self._device).to(memory_format=torch.channels_last)
        except torch.OutOfMemoryError as error:
            raise BackboneError(
                f"{device}: its memory does not hold the network. Set runtime.device to another device, such as cpu."
            ) from error

    def embed(self, pixels_BHWC: NDArray[np.uint8]) -> dict[str, Rows]:
        """See `Engine.embed`.

        Raises:
            BackboneError: The device's memory does not hold two pictures.
        """
        parts: list[dict[str, Rows]] = []
        start = 0
        while start < len(pixels_BHWC):
            batch = self.batch
            part = pixels_BHWC[start : start + batch]
            try:
                parts.append(self._forward(part, batch))
            except torch.OutOfMemoryError as error:
                self._halve(batch, error)
            else:
                start += len(part)
        return {layer: np.concatenate([rows[layer] for rows in parts]) for layer in self.dims}

    def _forward(self, part: NDArray[np.uint8], batch: int) -> dict[str, Rows]:
        pixels = torch.from_numpy(fill_up(part, batch))
        if self._device.type == "cuda":
            # Copies while the forward pass of another thread runs.
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        autocast = torch.autocast(self._device.type, torch.float16, self._autocast)
        with self._lock, self._clock("forward"), torch.inference_mode(), autocast:
            outputs = self._network(pixels.to(self._device))
            rows = [output[: len(part)].cpu().numpy() for output in outputs]
        with np.errstate(over="ignore"):  # a value too large for float16 becomes infinite; `check_finite` reports it
            return {layer: row.astype(self._dtype, copy=False) for layer, row in zip(self.dims, rows, strict=True)}

    def _halve(self, batch: int, error: Exception) -> None:
        with self._lock:
            if self.batch == batch:  # otherwise another thread has halved it already
                if batch <= 2:
                    raise BackboneError(f"{self._device}: out of memory even for two pictures at once") from error
                self.batch = max(2, batch // 2)
                print(f"{self._device}: out of memory with {batch} pictures at once; continuing with {self.batch}")
