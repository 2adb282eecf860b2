"""The CUDA graph: all kernels of a pass as one launch, where this gives the same bits.

A pass of a network launches hundreds of kernels. Each launch of eager torch takes Python's lock, which threads that
decode also want, so the GPU waits for them.
"""

import sys
from typing import NamedTuple

import torch

from headstart.backbone.layers import EmbeddingNetwork

_EAGER_PASSES = 4  # capturing takes the time of about four passes, so a few pictures get no graph


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    pixels: torch.Tensor
    outputs: tuple[torch.Tensor, ...]


class GraphedNetwork:
    """A network that replays its passes as a CUDA graph, once there have been a few of the same size.

    The first replay must give the bits of an eager pass over the same pictures. Otherwise, and if the graph cannot be
    captured, passes stay eager, which is said once.

    Args:
        network: Frozen network on the device.
        device: The device.
    """

    def __init__(self, network: EmbeddingNetwork, device: torch.device) -> None:
        self._network, self._device = network, device
        self._num, self._num_eager, self._can_capture = 0, 0, True
        self._graph: _Graph | None = None

    def __call__(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the output of each layer for uint8 pixels (B, px, px, 3) on the device.

        The next call may overwrite the outputs, so what reads them must be on the current stream before it.
        """
        if len(pixels_BHWC) != self._num:
            self._num, self._num_eager, self._graph = len(pixels_BHWC), 0, None
        if self._graph is not None:
            return _replay(self._graph, pixels_BHWC)
        outputs = self._network(pixels_BHWC)
        self._num_eager += 1
        if self._can_capture and self._num_eager == _EAGER_PASSES:
            self._try_to_capture(pixels_BHWC, outputs)
        return outputs

    def _try_to_capture(self, pixels: torch.Tensor, expected: tuple[torch.Tensor, ...]) -> None:
        try:
            captured = _capture(self._network, pixels)
            if all(map(torch.equal, _replay(captured, pixels), expected)):
                self._graph = captured
                return
            reason = "it gives other bits"
        except Exception as error:  # noqa: BLE001 - also out of memory, because a graph keeps its own
            reason = str(error).partition("\n")[0][:200]
        self._can_capture = False
        print(f"{self._device}: passes run without a CUDA graph, which is slower: {reason}", file=sys.stderr)


def _capture(network: EmbeddingNetwork, pixels: torch.Tensor) -> _Graph:
    static, graph = pixels.clone(), torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what libraries prepare on a stream's first pass cannot be captured
        network(static)
    torch.cuda.current_stream().wait_stream(stream)
    # Other threads may use CUDA meanwhile; the one that collects embeddings does.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        outputs = network(static)
    return _Graph(graph, static, outputs)


def _replay(captured: _Graph, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    captured.pixels.copy_(pixels)
    captured.graph.replay()
    return captured.outputs
