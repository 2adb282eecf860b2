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
from headstart.imaging.clock import Clock

# An export takes about ten seconds. From this number of images on it pays on a CPU even if the graph is not cached
# (docs/explanation/benchmarks.md).
MANY_IMAGES = 500
_MIN_BATCH = 8  # hardly slower than a batch of one
_GPU_BATCHES = (8, 32, 128)


def build_engine(
    bundle: Bundle,
    digest: str,
    *,
    device: str,
    batch: int | None,
    num_images: int,
    num_at_once: int | None,
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
        num_at_once: Images that usually come together; None if all do. With torch a forward pass takes about as many,
            because blank pictures fill it up. It stays the same for all images, as their bits may depend on it.
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
            from headstart.engines.onnx_engine import OnnxEngine  # a machine with a GPU need not have ONNX Runtime

            return OnnxEngine(graph, num_threads, batch, precision, clock)
    # Imported here because torch takes seconds to import.
    from headstart.engines.torch_engine import TorchEngine, default_batch
    from headstart.predict.network import build_network

    make_repeatable()
    if batch is None:
        num_pictures = (num_at_once or num_images) * len(bundle.spec["views"])
        largest = default_batch(device, transform_of(bundle.spec).crop_px)
        batch = min(largest, _pass_size(num_pictures, device))
    return TorchEngine(build_network(bundle, weights), device, batch, precision, clock)


def _pass_size(num_pictures: int, device: str) -> int:
    """Return the size of the passes for a number of pictures. A GPU gets one of few sizes."""
    if device == "cpu":
        return max(_MIN_BATCH, num_pictures)
    return next((size for size in _GPU_BATCHES if size >= num_pictures), _GPU_BATCHES[-1])


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
