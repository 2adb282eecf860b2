"""The engine: what every engine does, which one a device gets, and how far two may differ."""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.features import Rows
from headstart.base.machine import RuntimeParams
from headstart.imaging.staging import Pictures
from headstart.imaging.transform import Transform

# Largest difference between two sets of embeddings of the same pictures that still counts as none, in units of their
# root mean square, by precision. Measured with EfficientNet-Lite0 and SqueezeNet 1.1 in float32 on a CPU: other batches
# and threads 0; ONNX Runtime against torch 4e-6 to 2e-5; one layer's weights 0.1 % larger 0.006 to 0.014; the mean off
# by one gray level 0.06 to 0.13; another resize filter 0.5 and more. Rounding to float16 moves a large value by up to
# 5e-4 of itself. All engines compute in float32 and round what is stored: arithmetic in half precision moves values by
# up to 0.08, by 0.04 to 0.06 even between two ways of doing it, and would hide the changes above.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2}
# Engines that `runtime.engine: auto` tries, in this order, by the type of the device; torch on any other. The order is
# fixed, so that noise in timings never decides. On a CPU ONNX Runtime was faster than torch for every family of
# networks measured, 1.1 times (ViT-S) to 7.7 times (EfficientNet-Lite0); docs/explanation/benchmarks.md has the table.
AUTO_ENGINES = {"cpu": ("onnx", "torch"), "cuda": ("torch",), "mps": ("torch",)}


class ExportError(Exception):
    """ONNX Runtime cannot run this network as torch does; the message is the reason."""


class Engine(Protocol):
    """A network that is ready to run.

    Attributes:
        name: `onnx` or `torch`.
        batch: Pictures in each forward pass. A pass of another size may use other kernels and give other bits. So all
            passes have this size, unless a smaller one gives the same bits, and an embedding does not depend on the
            number of images.
        num_parallel: Largest number of threads that may usefully call `embed` at the same time.
        dims: Number of values of each layer's embedding, by layer, in the order of the network.
        resizes: Whether `start` takes staged pictures too, which it resizes as Pillow would (see `start_resizing`).
    """

    name: str
    batch: int
    num_parallel: int
    dims: dict[str, int]
    resizes: bool = False

    def embed(self, pixels_BHWC: NDArray[np.uint8]) -> dict[str, Rows]:
        """Turn uint8 pixels (B, px, px, 3) into embeddings (B, dim) for each layer, in the precision of the spec."""
        ...

    def start(self, pictures: Pictures) -> Callable[[], dict[str, Rows]]:
        """Start what `embed` does, and return a function that waits for the embeddings.

        The pixels must stay as they are until that function has returned.
        """
        assert isinstance(pictures, np.ndarray), "only an engine that resizes takes other pictures"
        rows = self.embed(pictures)
        return lambda: rows

    def start_resizing(self, transform: Transform) -> str:  # noqa: ARG002
        """Let `start` take staged pictures from now on, if they become the same pixels, bit for bit, as by Pillow.

        Returns:
            Why it does not; empty if it does.
        """
        return "only torch on a CUDA device can resize"

    def new_buffer(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array for pixels from which the engine copies fast."""
        return np.empty(shape, dtype=np.uint8)

    def close(self) -> None:
        """Give back the memory of the device. The engine cannot embed any more."""
        return


def engines_to_try(runtime: RuntimeParams, device: str) -> tuple[str, ...]:
    """Return the names of the engines to try on a device such as `cuda:0`. The first that can run the network runs it.

    If `runtime.engine` names one, it is the only one.
    """
    if runtime.engine != "auto":
        return (runtime.engine,)
    return AUTO_ENGINES.get(device.split(":", maxsplit=1)[0], ("torch",))


def fill_up(pixels_BHWC: NDArray[np.uint8], batch: int) -> NDArray[np.uint8]:
    """Return the pictures (n, px, px, 3), and blank ones after them if they are fewer than a batch."""
    if len(pixels_BHWC) == batch:
        return pixels_BHWC
    blank = np.zeros((batch - len(pixels_BHWC), *pixels_BHWC.shape[1:]), dtype=np.uint8)
    return np.concatenate([pixels_BHWC, blank])


def relative_difference(kept: Rows, now: Rows) -> float:
    """Return the largest difference in units of the root mean square of `kept`; infinite if the shapes differ."""
    if kept.shape != now.shape:
        return math.inf
    wide = kept.astype(np.float64)
    scale = float(np.sqrt(np.mean(wide**2))) or 1.0
    return float(np.abs(wide - now).max()) / scale
