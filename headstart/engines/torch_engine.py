"""The torch engine: runs every network, on any device."""

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.features import Rows
from headstart.backbone.layers import EmbeddingNetwork
from headstart.base.errors import BackboneError, ParamsError
from headstart.base.machine import allow_unrepeatable, is_out_of_memory
from headstart.engines.cuda_passes import CudaPasses, Pass
from headstart.engines.engine import Engine, fill_up
from headstart.imaging.clock import Clock
from headstart.imaging.staging import Pictures
from headstart.imaging.transform import Transform

_BATCHES = {"cpu": 32, "mps": 32, "cuda": 128}
_OTHER_BATCH = 32
_FULL_PX = 384  # pictures with a longer side get smaller batches on a GPU, because they need more memory


class TorchEngine(Engine):
    """A network on a device, one forward pass at a time. It computes in float32.

    See `Engine`. If the device runs out of memory, the batch is halved and stays so. On a GPU all passes run in one
    thread of the engine's own, because cuDNN makes its plans anew for each thread.

    Args:
        network: Frozen network. The engine moves it to the device.
        device: Name of the device, such as `cpu` or `cuda:0`.
        batch: Pictures in a forward pass; None for the device's default.
        precision: Type of the returned numbers, `float32` or `float16`.
        clock: Clock that counts the seconds of the forward passes.

    Raises:
        BackboneError: The memory of the device does not hold the network.
        ParamsError: This build of torch cannot use the device.
    """

    name = "torch"
    num_parallel = 1

    def __init__(self, network: EmbeddingNetwork, device: str, batch: int | None, precision: str, clock: Clock) -> None:
        self._device = torch.device(device)
        self.batch = batch or default_batch(device)
        self.dims = network.dims
        self._dtype, self._clock = np.dtype(precision), clock
        self._network = _moved(network, self._device)
        self._lock = threading.Lock()
        self._thread = None if self._device.type == "cpu" else ThreadPoolExecutor(1, "engine")
        self._cuda_passes = CudaPasses(self._network, self._device) if self._device.type == "cuda" else None

    def embed(self, pixels_BHWC: NDArray[np.uint8]) -> dict[str, Rows]:
        """See `Engine.embed`.

        Raises:
            BackboneError: The device's memory does not hold two pictures.
        """
        return self.start(pixels_BHWC)()

    def start(self, pictures: Pictures) -> Callable[[], dict[str, Rows]]:
        """See `Engine.start`. On a GPU the returned function raises what `embed` raises."""
        if self._thread is None:
            with self._lock:
                passes = self._start(pictures)
            return lambda: self._collect(passes)
        started = self._thread.submit(self._start, pictures)
        return lambda: self._collect(started.result())

    def start_resizing(self, transform: Transform) -> str:
        """See `Engine.start_resizing`."""
        if self._cuda_passes is None or self._thread is None:
            return super().start_resizing(transform)
        try:
            is_same = self._thread.submit(self._cuda_passes.resizes_as, transform).result()
        except RuntimeError as error:
            return str(error).partition("\n")[0][:200]
        self.resizes = is_same
        return "" if is_same else "the pixels of this GPU differ from those of Pillow"

    def new_buffer(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """See `Engine.new_buffer`. CUDA copies from pinned memory while passes run."""
        buffer: NDArray[np.uint8] = torch.empty(
            shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda"
        ).numpy()
        return buffer

    def close(self) -> None:
        """See `Engine.close`."""
        if self._thread is not None:
            self._thread.shutdown()
        del self._network, self._cuda_passes
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _start(self, pixels: Pictures) -> list[Pass]:
        """Start the passes that these pictures need."""
        passes: list[Pass] = []
        start = 0
        while start < len(pixels):
            part = pixels[start : start + self.batch]
            try:
                with self._clock("forward"), torch.inference_mode():
                    passes.append(self._pass(part))
            except RuntimeError as error:
                if allow_unrepeatable(error):
                    continue
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
            else:
                start += len(part)
        return passes

    def _pass(self, part: Pictures) -> Pass:
        if self._cuda_passes is not None:
            return self._cuda_passes.start(part, self.batch)
        assert isinstance(part, np.ndarray), "only CUDA resizes"
        outputs = self._network(torch.from_numpy(fill_up(part, self.batch)).to(self._device))
        rows = [output[: len(part)].cpu().numpy() for output in outputs]
        return lambda: rows

    def _collect(self, passes: Sequence[Pass]) -> dict[str, Rows]:
        with self._clock("forward"):
            parts = [wait() for wait in passes]
        with np.errstate(over="ignore"):  # a value too large for float16 becomes infinite; `check_finite` reports it
            return {
                layer: np.concatenate([rows[position].astype(self._dtype, copy=False) for rows in parts])
                for position, layer in enumerate(self.dims)
            }

    def _halve(self, error: Exception) -> None:
        if self.batch <= 2:
            raise BackboneError(f"{self._device}: out of memory even for two pictures at once") from error
        before, self.batch = self.batch, max(2, self.batch // 2)
        print(
            f"{self._device}: out of memory with {before} pictures at once; continuing with {self.batch}",
            file=sys.stderr,
        )


def default_batch(device: str, px: int = _FULL_PX) -> int:
    """Return the number of pictures in a forward pass on a device such as `cuda:0`, for pictures with sides of `px`."""
    kind = device.split(":", maxsplit=1)[0]
    batch = _BATCHES.get(kind, _OTHER_BATCH)
    return batch if kind == "cpu" else max(2, min(batch, batch * _FULL_PX**2 // px**2))


def _moved(network: EmbeddingNetwork, device: torch.device) -> EmbeddingNetwork:
    try:
        return network.to(device).to(memory_format=torch.channels_last)
    except (AssertionError, ImportError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise BackboneError(
                f"{device}: its memory does not hold the network. Set runtime.device to another device, such as cpu."
            ) from error
        reason = str(error).partition("\n")[0][:200]
        raise ParamsError(f"device: found {str(device)!r}, which torch cannot use here: {reason}") from error
