"""The engine of a bundle: torch, or ONNX Runtime for many images on a CPU."""

import sys
from contextlib import suppress
from pathlib import Path

from headstart.artifacts.bundle import Bundle
from headstart.backbone.spec import transform_of
from headstart.base.files import sha256_json
from headstart.base.machine import choose_device, make_repeatable
from headstart.engines.cache import find_graph, keep_graph, made_by, user_folder
from headstart.engines.engine import Engine, ExportError
from headstart.engines.onnx_engine import OnnxEngine
from headstart.imaging.clock import Clock

# An export takes about ten seconds. From this number of images on it pays on a CPU even if the graph is not cached
# (docs/explanation/benchmarks.md).
MANY_IMAGES = 500
_MIN_BATCH = 8  # hardly slower than a batch of one


def build_engine(
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
    """Build the engine that runs a bundle's network.

    On a CPU ONNX Runtime is several times faster than torch, but the network must be exported first.

    Args:
        bundle: A bundle that has been checked.
        digest: sha256 of the bundle's tensors.
        device: Device, as in `runtime.device`.
        batch: Images in a forward pass; None for the engine's default.
        num_images: Approximate number of images. Only this number and the device decide which engine is used, so the
            same images always give the same bits.
        num_threads: Threads that will use the engine.
        weights: Weights of the backbone, as for `build_network`.
        clock: Clock that the engine adds its seconds to.

    Raises:
        BundleError: As `build_network`.
        ParamsError: This machine does not have the device.
    """
    device = choose_device(device, "device")
    # A fine-tuned model predicts in full precision. A head reads embeddings as the cache rounded them.
    precision = "float32" if bundle.track == "finetune" else bundle.spec["precision"]
    if device == "cpu" and num_images >= MANY_IMAGES:
        graph = _find_or_export_graph(bundle, digest, weights)
        if graph is not None:
            return OnnxEngine(graph, num_threads, batch, precision, clock)
    # Imported here because torch takes seconds to import.
    from headstart.engines.torch_engine import DEFAULT_BATCH, TorchEngine
    from headstart.predict.network import build_network

    make_repeatable()
    num_views = len(bundle.spec["views"])
    default_batch = min(DEFAULT_BATCH[device.split(":")[0]], max(_MIN_BATCH, num_images * num_views))
    return TorchEngine(build_network(bundle, weights), device, batch or default_batch, precision, clock)


def _find_or_export_graph(bundle: Bundle, digest: str, weights: Path | None) -> bytes | None:
    """Return the network as an ONNX graph, from the user's cache if it is there; None if it cannot be exported."""
    key = sha256_json({
        "bundle": digest,
        "spec": dict(bundle.spec),
        "layers": list(bundle.layers),
        **made_by(),
    })  # fmt: skip
    folder = user_folder()
    cached = find_graph(folder, key)
    if cached is not None:
        return cached
    from headstart.engines.export import make_graph
    from headstart.predict.network import build_network

    name = bundle.spec["backbone"]
    print(f"predict: exporting {name} for ONNX Runtime (once; the graph is cached)", file=sys.stderr)
    network = build_network(bundle, weights)
    try:
        graph = make_graph(network, transform_of(bundle.spec).crop_px, bundle.layers)
    except ExportError as error:
        print(f"predict: WARNING: {name} cannot be exported and runs by torch, more slowly: {error}", file=sys.stderr)
        return None
    with suppress(OSError):  # the cache cannot be written to
        keep_graph(folder, key, graph)
    return graph
