"""The export: turns a torch network into a graph for ONNX Runtime and compares the two before it returns the graph."""

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from headstart.base.errors import BackboneError
from headstart.engines.engine import TOLERANCES, ExportError, relative_difference
from headstart.engines.onnx_engine import OnnxEngine
from headstart.imaging.clock import Clock


def make_graph(network: nn.Module, px: int, outputs: Sequence[str]) -> bytes:
    """Return a network as the bytes of an ONNX file that takes batches of any length.

    Args:
        network: Network in eval mode, on the CPU. It turns uint8 (B, px, px, 3) into float32 (B, ...) for each output.
        px: Side of the pictures in pixels.
        outputs: Names of the outputs, in the order of the network.

    Raises:
        ExportError: The network cannot be exported, or the graph differs from it by more than `TOLERANCES`.
    """
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, size=(2, px, px, 3), dtype=np.uint8)
    graph = _to_onnx(network, torch.from_numpy(pixels), outputs)
    try:
        rows = OnnxEngine(graph, 1, 2, "float32", Clock()).embed(pixels)
    except BackboneError as error:  # exported, but ONNX Runtime cannot run it
        raise ExportError(str(error)) from error
    with torch.inference_mode():
        for name, expected in zip(outputs, network(torch.from_numpy(pixels)), strict=True):
            difference = relative_difference(expected.numpy(), rows[name])
            if not difference <= TOLERANCES["float32"]:
                raise ExportError(f"{name} differs by {difference:.2g} of its size from torch")
    return graph


def _to_onnx(network: nn.Module, pixels: torch.Tensor, outputs: Sequence[str]) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own code
        path = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                network,
                (pixels,),
                path,
                input_names=["pixels"],
                output_names=list(outputs),
                dynamo=True,
                dynamic_shapes=({0: "batch"},),
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter passes on the errors of all libraries below it
            raise ExportError(f"{type(error).__name__}: {str(error).strip()[:200]}") from error
        return path.read_bytes()
