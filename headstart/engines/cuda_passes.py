"""Passes on a CUDA device that nothing waits for: pictures go up and embeddings come down beside the passes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.backbone.layers import EmbeddingNetwork
from headstart.engines.cuda_graph import GraphedNetwork
from headstart.engines.gpu_resize import made_up_pictures, resize_into
from headstart.imaging.staging import Pictures, StagedPictures, StagingBuffer
from headstart.imaging.transform import Transform

Pass = Callable[[], list[NDArray[np.float32]]]  # waits for a pass that was started, and returns each layer's rows


@dataclass
class _Input:
    """Pictures on the device.

    Attributes:
        pixels: uint8 (batch, px, px, 3).
        staged: uint8 (capacity,), pictures that are not resized yet; empty if they come resized.
        free: Event after which no pass reads them any more.
    """

    pixels: torch.Tensor
    staged: torch.Tensor
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

    def start(self, pictures: Pictures, batch: int) -> Pass:
        """Start a pass of `batch` pictures, and return a function that waits for the rows of each layer, (n, dim).

        Args:
            pictures: uint8 pixels (n, px, px, 3), or pictures that are resized here; at most a batch. Blank pictures
                fill the batch up. They must stay as they are until the returned function has returned.
            batch: Pictures in the pass.
        """
        num = len(pictures)
        with torch.cuda.device(self._device):
            passes = torch.cuda.current_stream()
            given = self._input_with(pictures, batch, passes)
            rows = [_copied_down(output[:num]) for output in self._network(given.pixels)]
            done = given.free = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # waits asleep
            done.record(passes)

        def wait() -> list[NDArray[np.float32]]:
            done.synchronize()
            return [each.numpy() for each in rows]

        return wait

    def resizes_as(self, transform: Transform) -> bool:
        """Return whether pictures that are resized here have all the bits of those that Pillow resizes."""
        pictures = made_up_pictures(transform)
        num_bytes = sum(3 * picture.image.width * picture.image.height for picture in pictures) + 2**20
        buffer = StagingBuffer(np.empty(num_bytes, dtype=np.uint8), len(pictures), transform)
        for place, picture in enumerate(pictures):
            buffer.put(place, picture)
        expected = np.stack([transform.pixels(picture.image, picture.extent) for picture in pictures])
        with torch.inference_mode(), torch.cuda.device(self._device):
            passes = torch.cuda.current_stream()
            given = self._input_with(buffer.pictures(len(pictures)), len(pictures), passes)
            found = given.pixels.cpu().numpy()
            given.free = passes.record_event()
        return np.array_equal(found, expected)

    def _input_with(self, pictures: Pictures, batch: int, passes: torch.cuda.Stream) -> _Input:
        """Return an input that has the pictures and, after them, blank ones, before later work of the passes."""
        num = len(pictures)
        if isinstance(pictures, StagedPictures):
            host, px = torch.from_numpy(pictures.data)[: pictures.num_bytes], pictures.px
            given = self._next_input((batch, px, px, 3), len(pictures.data), passes)
            target = given.staged[: pictures.num_bytes]
        else:
            host = torch.from_numpy(pictures)
            given = self._next_input((batch, *pictures.shape[1:]), 0, passes)
            target = given.pixels[:num]
        if not host.is_pinned():  # a buffer of `TorchEngine.new_buffer` is
            host = host.pin_memory()
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(given.free)
            target.copy_(host, non_blocking=True)
            if num < batch:
                given.pixels[num:].zero_()
            copied = self._copies.record_event()
        passes.wait_event(copied)
        if isinstance(pictures, StagedPictures):
            resize_into(given.pixels, given.staged, pictures)
        return given

    def _next_input(self, shape: tuple[int, ...], capacity: int, passes: torch.cuda.Stream) -> _Input:
        """Return the input that was used longer ago. Another shape or capacity gets new ones."""
        if self._inputs and (self._inputs[0].pixels.shape != shape or len(self._inputs[0].staged) != capacity):
            self._copies.synchronize()  # no copy may run into memory that is given back
            self._inputs.clear()
        if not self._inputs:
            new = [(self._new(shape), self._new((capacity,))) for _ in range(2)]
            # Memory of an earlier pass, which may still run.
            self._inputs = [_Input(pixels, staged, passes.record_event()) for pixels, staged in new]
        self._inputs.reverse()
        return self._inputs[0]

    def _new(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.uint8, device=self._device)


def _copied_down(output: torch.Tensor) -> torch.Tensor:
    """Start to copy a tensor into pinned memory, which the copy needs to run beside other work."""
    return torch.empty(output.shape, dtype=output.dtype, pin_memory=True).copy_(output, non_blocking=True)
