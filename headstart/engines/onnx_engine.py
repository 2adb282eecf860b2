"""The ONNX Runtime engine: runs a graph on the CPU. Each call uses one thread; many calls run at once."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from headstart.artifacts.features import Rows
from headstart.base.errors import BackboneError
from headstart.engines.engine import Engine, fill_up
from headstart.imaging.clock import Clock

# A larger batch is no faster, because every thread has its own forward pass (docs/explanation/benchmarks.md). Larger
# pictures get a smaller batch: at 1024 px a batch of 4 takes 1.1 GiB and is no faster than a batch of 1.
_BATCH = 4
_PIXELS = _BATCH * 384**2


class OnnxEngine(Engine):
    """A graph on the CPU.

    See `Engine`. A call runs on the thread that makes it and on no other. So threads that decode and embed fill all
    cores without waiting for each other, and the bits do not depend on the number of cores.

    Args:
        graph: Bytes of an ONNX file. It turns uint8 (B, px, px, 3) into float32 (B, dim) for each layer, by name.
        num_threads: Number of threads that will call `embed`.
        batch: Pictures in a forward pass; None for the engine's default.
        precision: Type of the returned numbers, `float32` or `float16`. The graph computes in float32.
        clock: Clock that counts the seconds of the forward passes.

    Raises:
        BackboneError: ONNX Runtime cannot run this graph.
    """

    name = "onnx"

    def __init__(self, graph: bytes, num_threads: int, batch: int | None, precision: str, clock: Clock) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has many classes of errors, all below Exception
            raise BackboneError(f"ONNX Runtime cannot run this network: {str(error)[:300]}") from error
        px = self._session.get_inputs()[0].shape[1]
        self.batch = batch or min(_BATCH, max(1, _PIXELS // px**2))
        self.num_parallel = num_threads
        self.dims = {output.name: output.shape[1] for output in self._session.get_outputs()}
        self._input = self._session.get_inputs()[0].name
        self._dtype, self._clock = np.dtype(precision), clock
        self._is_exact: dict[int, bool] = {}  # whether so many pictures alone give the bits of a full batch

    def embed(self, pixels_BHWC: NDArray[np.uint8]) -> dict[str, Rows]:
        """See `Engine.embed`."""
        parts = []
        for start in range(0, len(pixels_BHWC), self.batch):
            with self._clock("forward"):
                outputs = self._run(pixels_BHWC[start : start + self.batch])
            with np.errstate(over="ignore"):  # a value too large for float16 is infinite; `check_finite` reports it
                parts.append([rows.astype(self._dtype, copy=False) for rows in outputs])
        return {layer: np.concatenate(rows) for layer, rows in zip(self.dims, zip(*parts, strict=True), strict=True)}

    def _run(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Run pictures through the graph, at most a batch.

        Fewer than a batch run alone if that gives the same bits, which is tried once for each number of pictures. One
        photo that a server gets would else take as long as four.
        """
        num = len(pixels)
        if num == self.batch or self._is_exact.get(num, False):
            return self._session.run(list(self.dims), {self._input: pixels})
        full = self._session.run(list(self.dims), {self._input: fill_up(pixels, self.batch)})
        rows = [output[:num] for output in full]
        if num not in self._is_exact:
            alone = self._session.run(list(self.dims), {self._input: pixels})
            self._is_exact[num] = all(map(np.array_equal, alone, rows))
        return rows
