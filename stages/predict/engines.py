"""Engines: what runs a bundle's network."""

import hashlib
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from stages.core.bundle import Bundle
from stages.core.clock import Clock
from stages.core.engines.engine import Engine, ExportError
from stages.core.engines.onnx_engine import OnnxEngine
from stages.core.files import code_digests, sha256_json, write_bytes
from stages.core.runtime import choose_device, make_repeatable
from stages.core.specs import transform_of

# From so many images on, an export of about ten seconds pays on a CPU even if it is not kept (docs/benchmarks.md).
MANY_IMAGES = 500
_LEAST_BATCH = 8  # little slower than one picture
_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "timm", "torch", "torchvision")


def make_engine(
    bundle: Bundle,
    digest: str,
    *,
    device: str,
    batch: int | None,
    num_images: int,
    num_threads: int,
    weights: Path | None,
    clock: Clock,
) -> Engine:
    """Make what runs the bundle's network: torch, or for many images on a CPU ONNX Runtime, several times faster.

    Args:
        bundle: Checked.
        digest: Of its tensors.
        device: As `runtime.device`.
        batch: Pictures in a forward pass; None for the engine's own.
        num_images: About how many will come; alone decides which engine, so that the same images give the same bits.
        num_threads: That will use it.
        weights: As for `build_network`.
        clock: Given to the engine.

    Raises:
        BundleError: As `build_network`.
        ParamsError: A device that is not there.
    """
    device = choose_device(device, "device")
    # Fine-tuning predicts in full precision; a head reads what the cached embeddings were rounded to.
    precision = "float32" if bundle.track == "finetune" else bundle.spec["precision"]
    if device == "cpu" and num_images >= MANY_IMAGES:
        graph = _graph(bundle, digest, weights)
        if graph is not None:
            return OnnxEngine(graph, num_threads, batch, precision, clock)
    # Here, because torch takes seconds to import.
    from stages.core.engines.torch_engine import DEFAULT_BATCH, TorchEngine
    from stages.predict.networks import build_network

    make_repeatable()
    num_views = len(bundle.spec["views"])
    own = min(DEFAULT_BATCH[device.split(":")[0]], max(_LEAST_BATCH, num_images * num_views))
    return TorchEngine(build_network(bundle, weights), device, batch or own, precision, clock)


def _graph(bundle: Bundle, digest: str, weights: Path | None) -> bytes | None:
    """Return the network as a graph, kept in the project's own cache; None where it cannot be exported."""
    key = sha256_json({
        "bundle": digest,
        "spec": dict(bundle.spec),
        "tap": bundle.tap,
        "versions": {name: version(name) for name in _PACKAGES},
        "code": code_digests("core/*.py", "core/engines/*.py", "predict/*.py"),
    })  # fmt: skip
    folder = kept_folder()
    for path in folder.glob(f"{key}-*.onnx"):
        graph = path.read_bytes()
        if path == _path(folder, key, graph):  # the name tells whether it is whole
            return graph
    from stages.core.engines.graphs import make_graph
    from stages.predict.networks import build_network

    print(f"predict: exports {bundle.spec['backbone']} for ONNX Runtime, once", file=sys.stderr)
    network = build_network(bundle, weights)
    try:
        graph = make_graph(network, transform_of(bundle.spec).crop_px, [bundle.tap])
    except ExportError as error:
        print(f"predict: WARNING: {bundle.spec['backbone']} runs by torch, more slowly: {error}", file=sys.stderr)
        return None
    with suppress(OSError):  # a checkout that is only read
        write_bytes(_path(folder, key, graph), graph)
    return graph


def kept_folder() -> Path:
    """Return where exported networks are kept: of the project, whatever the working directory."""
    return Path(__file__).parents[2] / ".cache" / "engines"


def _path(folder: Path, key: str, graph: bytes) -> Path:
    return folder / f"{key}-{hashlib.sha256(graph).hexdigest()}.onnx"
