"""Exporting: a bundle for other runtimes, checked on real images before it is written."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.artifacts.bundle import Bundle, write_bundle
from headstart.backbone.layers import EmbeddingNetwork
from headstart.backbone.spec import transform_of
from headstart.base.errors import BundleError, DataError
from headstart.base.files import atomic_folder, canonical_json, write_bytes
from headstart.engines.engine import ExportError
from headstart.engines.export import make_graph
from headstart.predict.images import ImageLike
from headstart.predict.inputs import Source, load_each
from headstart.predict.model import Model
from headstart.predict.network import build_network

SCHEMA = "headstart.export/2"
# Largest difference of a logit that is let pass. ONNX Runtime and torch differ by some 1e-5.
TOLERANCE = 1e-3
OUTPUTS = ("logits", "probabilities")
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class LogitsNetwork(nn.Module):
    """Cropped pictures to calibrated logits and probabilities: all of a bundle behind the resizing.

    Args:
        network: Up to the bundle's layer.
        bundle: Its head.
    """

    def __init__(self, network: EmbeddingNetwork, bundle: Bundle) -> None:
        super().__init__()
        self._network = network
        self._half = bundle.track == "head" and bundle.spec["precision"] == "float16"
        self._head = nn.Linear(bundle.weight.shape[1], len(bundle.classes))
        with torch.no_grad():
            self._head.weight.copy_(torch.from_numpy(bundle.weight / np.float32(bundle.temperature)))
            self._head.bias.copy_(torch.from_numpy(bundle.bias / np.float32(bundle.temperature)))

    def forward(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float32 (B, C) logits and probabilities of uint8 pixels (B, px, px, 3)."""
        (rows,) = self._network(pixels_BHWC)
        if self._half:  # as the cached embeddings that the head was trained on
            rows = rows.half().float()
        logits = self._head(rows)
        return logits, logits.softmax(1)


def export_onnx(model: Model, path: Path, images: Sequence[ImageLike], weights: Path | None) -> float:
    """Write the model as an ONNX file: `pixels` uint8 (batch, px, px, 3) to `logits` and `probabilities` (batch, C).

    Its metadata say the rest, as JSON: classes, transform, decode policy, views, digests.

    Args:
        model: To be exported.
        path: Of the file.
        images: Some real ones, to check on.
        weights: As for `load`.

    Returns:
        The largest difference of a logit on them.

    Raises:
        BundleError: It cannot be exported, or gives other logits. Nothing is written then.
        DataError: An image gives no picture.
    """
    network = LogitsNetwork(build_network(model.bundle, weights), model.bundle).eval()
    try:
        graph = make_graph(network, transform_of(model.bundle.spec).crop_px, OUTPUTS)
    except ExportError as error:
        raise BundleError(f"ONNX cannot express this network: {error}") from error
    content = onnx.load_from_string(graph)
    onnx.helper.set_model_props(content, {"headstart": canonical_json(describe(model))})
    data: bytes = content.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    difference = _check(model, images, lambda pixels: session.run(["logits"], {"pixels": pixels})[0])
    write_bytes(path, data)
    return difference


def export_torch(model: Model, path: Path, images: Sequence[ImageLike], weights: Path | None) -> float:
    """Write the model as a program of torch.export (`torch.export.load`), as `export_onnx` does; metadata likewise."""
    network = LogitsNetwork(build_network(model.bundle, weights), model.bundle).eval()
    px = transform_of(model.bundle.spec).crop_px
    example = torch.zeros(2, px, px, 3, dtype=torch.uint8)
    try:
        program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    except Exception as error:  # the exporter lets the errors of every layer below it through
        raise BundleError(f"torch.export cannot express this network: {str(error).strip()[:200]}") from error
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "model.pt2"
        torch.export.save(program, scratch, extra_files={"headstart.json": canonical_json(describe(model))})
        loaded: Any = torch.export.load(scratch).module()
        with torch.inference_mode():
            difference = _check(model, images, lambda pixels: loaded(torch.from_numpy(pixels))[0].numpy())
        write_bytes(path, scratch.read_bytes())
    return difference


def export_self_contained(model: Model, folder: Path, weights: Path | None) -> None:
    """Write a bundle that holds the backbone's weights too, so that it needs no other file.

    Raises:
        DataError: The folder is there already.
    """
    state = build_network(model.bundle, weights).network.state_dict()
    backbone = {name: tensor.numpy() for name, tensor in state.items()}
    try:
        with atomic_folder(folder) as temporary:
            write_bundle(temporary, replace(model.bundle, backbone=backbone))
    except FileExistsError as error:
        raise DataError(str(error)) from error


def describe(model: Model) -> dict[str, Any]:
    """Return what somebody without this project needs to feed the model and to read its outputs."""
    bundle = model.bundle
    return {
        "schema": SCHEMA,
        "track": bundle.track,
        "classes": list(bundle.classes),
        "spec": dict(bundle.spec),
        "layer": bundle.layer,
        "trained_on": dict(bundle.trained_on),
        "model_sha256": model.digest,
        "input": (
            "uint8 RGB. The shorter side is resized to resize_px, the longer to int(resize_px * longer / shorter), "
            "with squash both to resize_px, by Pillow's resize with that filter; then a square of crop_px is cropped, "
            "from left round((width - crop_px) / 2), top likewise. Scaled and normalised inside"
        ),
        "output": "calibrated; with several views the mean of their logits",
    }


def _check(model: Model, images: Sequence[ImageLike], run: Run) -> float:
    """Return the largest difference between the model's logits and those of another way to run it."""
    num_views = len(model.bundle.spec["views"])
    expected = model.logits(images)
    found = run(model.pixels(images)).reshape(len(images), num_views, -1).mean(axis=1, dtype=np.float64)
    difference = float(np.abs(expected - found).max())
    if not difference <= TOLERANCE:
        raise BundleError(
            f"exported, it gives other logits: they differ by {difference:.2g} on {len(images)} images, expected at "
            f"most {TOLERANCE:g}. Nothing was written."
        )
    return difference


def choose(sources: Sequence[Source], num: int) -> list[ImageLike]:
    """Return some images, evenly."""
    positions = np.unique(np.linspace(0, len(sources) - 1, min(num, len(sources))).astype(int))
    return list(load_each([sources[position] for position in positions]))
