"""Export: a bundle for other runtimes. Every export is compared with the model on real images before it is written.

To add a format, write a function like `_to_onnx` and add it to `FORMATS`.
"""

import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import write_bundle
from headstart.backbone.spec import transform_of
from headstart.base.errors import BundleError, DataError
from headstart.base.files import atomic_folder, canonical_json, write_bytes
from headstart.engines.engine import ExportError
from headstart.predict.image_like import ImageLike
from headstart.predict.inputs import InputImage, load_inputs
from headstart.predict.model import Model
from headstart.predict.outputs import check_writable

SCHEMA = "headstart.export/3"
# Largest difference of a logit that is accepted. ONNX Runtime and torch differ by about 1e-5.
TOLERANCE = 1e-3
OUTPUTS = ("logits", "probabilities")


@dataclass(frozen=True)
class Export:
    """A model in another format, not yet written.

    Attributes:
        data: Bytes of the file.
        run: Function that runs these bytes: uint8 pixels (B, px, px, 3) to float32 logits (B, C).
    """

    data: bytes
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def export_model(
    model: Model, format_name: str, path: Path, images: Sequence[ImageLike], weights: Path | None
) -> float:
    """Write the model as one file, unless its logits differ from the model's.

    In every format `pixels`, uint8 (batch, px, px, 3), go in, and calibrated `logits` and `probabilities`, float32
    (batch, C), come out. The file's metadata hold the rest as JSON: classes, transform, decode policy, views, digests.

    Args:
        model: Model to export.
        format_name: A key of `FORMATS`.
        path: Path of the file.
        images: Real images on which the logits are compared.
        weights: Weights file of the backbone, as for `load`.

    Returns:
        The largest difference of a logit on these images.

    Raises:
        BundleError: The format cannot express the network, or the logits differ by more than `TOLERANCE`. Nothing is
            written then.
        DataError: An image cannot be read or decoded, or `check_destination` finds that the file cannot be written.
    """
    check_destination(path, is_folder=False)
    make_export, _ = FORMATS[format_name]
    export = make_export(model, weights)
    difference = _max_difference(model, images, export)
    if not difference <= TOLERANCE:
        raise BundleError(
            f"the {format_name} export gives other logits than the model: they differ by {difference:.2g} on "
            f"{len(images)} images, expected at most {TOLERANCE:g}. Nothing was written."
        )
    write_bytes(path, export.data)
    return difference


def export_self_contained(model: Model, folder: Path, weights: Path | None) -> None:
    """Write a bundle that holds the weights of the backbone too, so that it needs no other file.

    This is no format of `FORMATS`: the result is a bundle for Headstart itself, with the same tensors, so there is
    nothing to compare.

    Raises:
        DataError: As `check_destination`.
    """
    check_destination(folder, is_folder=True)
    from headstart.predict.network import build_network  # imports torch, which takes seconds

    state = build_network(model.bundle, weights).network.state_dict()
    backbone = {name: tensor.numpy() for name, tensor in state.items()}
    with atomic_folder(folder) as temporary:
        write_bundle(temporary, replace(model.bundle, backbone=backbone))


def check_destination(path: Path, *, is_folder: bool) -> None:
    """Raise if an export cannot be written to a path, before the slow work.

    Args:
        path: Output of the export. Missing folders above it are no error, because the export makes them.
        is_folder: Whether the output is the new folder of a self-contained bundle, not a file.

    Raises:
        DataError: The folder exists already, or the nearest existing folder above the path is a file or cannot be
            written to.
    """
    if is_folder and path.exists():
        what = "already" if path.is_dir() else "as a file"
        raise DataError(f"{path}: exists {what}; --self-contained makes a new folder. Move it away, or name another.")
    check_writable(path)


def choose_images(model: Model, inputs: Sequence[InputImage], num: int) -> list[ImageLike]:
    """Return at most `num` of the images, evenly spaced, decoded for a model."""
    positions = np.unique(np.linspace(0, len(inputs) - 1, min(num, len(inputs))).astype(int))
    return [model.decode(image) for image in load_inputs([inputs[position] for position in positions])]


def metadata(model: Model) -> str:
    """Return JSON text with all that is needed to feed an export and to read its outputs without this project."""
    bundle = model.bundle
    return canonical_json({
        "schema": SCHEMA,
        "track": bundle.track,
        "classes": list(bundle.classes),
        "spec": dict(bundle.spec),
        "layers": list(bundle.layers),
        "trained_on": dict(bundle.trained_on),
        "model_sha256": model.digest,
        "input": (
            "uint8 RGB, decoded as spec.decode says. The shorter side is resized to resize_px, the longer to "
            "int(resize_px * longer / shorter), with squash both to resize_px, by Pillow's resize with that filter; "
            "then a square of crop_px is cropped, from left round((width - crop_px) / 2), top likewise. Scaled and "
            "normalised inside"
        ),
        "output": "calibrated; with several views the mean of their logits",
    })  # fmt: skip


def _to_onnx(model: Model, weights: Path | None) -> Export:
    import onnx
    import onnxruntime

    from headstart.engines.export import make_graph
    from headstart.predict.network import build_logits_network

    network = build_logits_network(model.bundle, weights)
    try:
        graph = make_graph(network, transform_of(model.bundle.spec).crop_px, OUTPUTS)
    except ExportError as error:
        raise BundleError(f"ONNX cannot express this network: {error}") from error
    content = onnx.load_from_string(graph)
    onnx.helper.set_model_props(content, {"headstart": metadata(model)})
    data = content.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return Export(data, lambda pixels: session.run(["logits"], {"pixels": pixels})[0])


def _to_torch(model: Model, weights: Path | None) -> Export:
    import torch

    from headstart.predict.network import build_logits_network

    network, px = build_logits_network(model.bundle, weights), transform_of(model.bundle.spec).crop_px
    example = torch.zeros(2, px, px, 3, dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the outputs that the network's hooks keep
            program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    except Exception as error:  # the exporter passes on the errors of every layer below it
        raise BundleError(f"torch.export cannot express this network: {str(error).strip()[:200]}") from error
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "model.pt2"
        torch.export.save(program, scratch, extra_files={"headstart.json": metadata(model)})
        data = scratch.read_bytes()
    loaded: Any = torch.export.load(io.BytesIO(data)).module()

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = loaded(torch.from_numpy(pixels))[0].numpy()
        return logits

    return Export(data, run)


def _max_difference(model: Model, images: Sequence[ImageLike], export: Export) -> float:
    """Return the largest difference between the model's logits and those of an export."""
    num_views = len(model.bundle.spec["views"])
    expected = model.logits(images)
    found = export.run(model.pixels(images)).reshape(len(images), num_views, -1).mean(axis=1, dtype=np.float64)
    return float(np.abs(expected - found).max())


# Names of `--to`: the function that makes the export, and what the format is for.
FORMATS: dict[str, tuple[Callable[[Model, Path | None], Export], str]] = {
    "onnx": (_to_onnx, "for ONNX Runtime"),
    "torch": (_to_torch, "for torch.export.load"),
}
