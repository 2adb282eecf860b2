"""Passes on a CUDA device that nothing waits for: pictures go up and embeddings come down beside the passes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.backbone.layers import EmbeddingNetwork
from headstart.engines.cuda_graph import GraphedNetwork

Pass = Callable[[], list[NDArray[np.float32]]]  # waits for a pass that was started, and returns each layer's rows


@dataclass
class _Input:
    """Pictures on the device.

    Attributes:
        pixels: uint8 (batch, px, px, 3).
        free: Event after which no pass reads them any more.
    """

    pixels: torch.Tensor
    free: torch.cuda.Event


class CudaPasses:
    """Runs a network. One thread may call it at a time, and always the same, in inference mode.

    Pictures are copied on a stream of their own into one of two inputs, while the pass before reads the other.

    Args:
        network: Frozen network on the device.
        device: The device.
    """

    def __init__(self, network: EmbeddingNetwork, device: torch.device) -> None:
        self._network, self._device = GraphedNetwork(network, device), device
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._inputs: list[_Input] = []

    def start(self, pixels_BHWC: NDArray[np.uint8], batch: int) -> Pass:
        """Start a pass of `batch` pictures, and return a function that waits for the rows of each layer, (n, dim).

        Args:
            pixels_BHWC: uint8 pixels (n, px, px, 3), at most a batch. Blank pictures fill the batch up. They must stay
                as they are until the returned function has returned.
            batch: Pictures in the pass.
        """
        num, pixels = len(pixels_BHWC), torch.from_numpy(pixels_BHWC)
        if not pixels.is_pinned():  # a buffer of `TorchEngine.new_buffer` is
            pixels = pixels.pin_memory()
        with torch.cuda.device(self._device):
            passes = torch.cuda.current_stream()
            given = self._next_input((batch, *pixels_BHWC.shape[1:]), passes)
            with torch.cuda.stream(self._copies):
                self._copies.wait_event(given.free)
                given.pixels[:num].copy_(pixels, non_blocking=True)
                if num < batch:
                    given.pixels[num:].zero_()
                copied = self._copies.record_event()
            passes.wait_event(copied)
            rows = [_copied_down(output[:num]) for output in self._network(given.pixels)]
            done = given.free = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # waits asleep
            done.record(passes)

        def wait() -> list[NDArray[np.float32]]:
            done.synchronize()
            return [each.numpy() for each in rows]

        return wait

    def _next_input(self, shape: tuple[int, ...], passes: torch.cuda.Stream) -> _Input:
        """Return the input that was used longer ago. Another shape gets new ones."""
        if self._inputs and self._inputs[0].pixels.shape != shape:
            self._copies.synchronize()  # no copy may run into memory that is given back
            self._inputs.clear()
        if not self._inputs:
            pixels = [torch.empty(shape, dtype=torch.uint8, device=self._device) for _ in range(2)]
            # Memory of an earlier pass, which may still run.
            self._inputs = [_Input(each, passes.record_event()) for each in pixels]
        self._inputs.reverse()
        return self._inputs[0]


def _copied_down(output: torch.Tensor) -> torch.Tensor:
    """Start to copy a tensor into pinned memory, which the copy needs to run beside other work."""
    return torch.empty(output.shape, dtype=output.dtype, pin_memory=True).copy_(output, non_blocking=True)
