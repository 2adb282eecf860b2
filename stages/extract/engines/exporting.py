"""Exporting: a network from torch to a graph for ONNX Runtime, checked against torch before it is kept."""

import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from stages.core.backbones import build_embedding_network
from stages.core.clock import Clock
from stages.core.errors import BackboneError, HeadstartError
from stages.core.files import write_bytes, write_json
from stages.core.sections import BackboneParams
from stages.core.taps import EmbeddingNetwork
from stages.extract.canary import TOLERANCES, relative_difference
from stages.extract.engines.kept import ExportError, graph_path, known_path
from stages.extract.engines.onnx_engine import OnnxEngine


def export(params: BackboneParams, px: int | str, median_short_side_px: float, folder: Path, key: str) -> None:
    """Export a backbone into two files of a folder: what is to know about it, and the graph (see `kept`).

    Args:
        params: The backbone.
        px: As in `transform.px`.
        median_short_side_px: Median over the images of the shorter side.
        folder: Where to.
        key: Of all that the graph depends on but for the side of the pictures.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as asked.
        ExportError: It cannot be exported, or the graph gives other numbers.
    """
    facts, network = build_embedding_network(params, px, median_short_side_px)
    crop_px = facts.transform_for(px, median_short_side_px).crop_px
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, size=(2, crop_px, crop_px, 3), dtype=np.uint8)
    graph = _to_onnx(network, torch.from_numpy(pixels))
    try:
        rows = OnnxEngine(graph, 1, 2, "float32", Clock()).embed(pixels)
    except BackboneError as error:  # it was exported, but does not run
        raise ExportError(str(error)) from error
    with torch.inference_mode():
        for tap, expected in zip(network.taps, network(torch.from_numpy(pixels)), strict=True):
            difference = relative_difference(expected.numpy(), rows[tap])
            if not difference <= TOLERANCES["float32"]:
                raise ExportError(f"tap {tap} differs by {difference:.2g} of its size from torch")
    write_bytes(graph_path(folder, key, crop_px, facts.weights_sha256, graph), graph)
    write_json(known_path(folder, key), {"facts": facts.to_json(), "taps": list(network.taps)})


def _to_onnx(network: EmbeddingNetwork, pixels: torch.Tensor) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        path = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                network,
                (pixels,),
                path,
                input_names=["pixels"],
                output_names=list(network.taps),
                dynamo=True,
                dynamic_shapes=({0: "batch"},),
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter lets the errors of every layer below it through
            raise ExportError(f"{type(error).__name__}: {str(error).strip()[:200]}") from error
        return path.read_bytes()


def main() -> None:
    """Do what the JSON in the first argument says; on a known error print its class and message as JSON and exit 1."""
    given = json.loads(sys.argv[1])
    try:
        export(
            BackboneParams.model_validate(given["params"]),
            given["px"],
            given["median_short_side_px"],
            Path(given["folder"]),
            given["key"],
        )
    except (HeadstartError, ExportError) as error:
        print(json.dumps([type(error).__name__, str(error)]))
        sys.exit(1)
    except OSError as error:
        print(json.dumps(["StoreError", f"{given['folder']}: cannot be written to ({error})"]))
        sys.exit(1)


if __name__ == "__main__":
    main()
