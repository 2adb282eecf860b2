"""Engines: what runs a bundle's network."""

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

# From so many images on, an export of about ten seconds pays on a CPU even if it is not kept
# (docs/explanation/benchmarks.md).
MANY_IMAGES = 500
_LEAST_BATCH = 8  # little slower than one picture


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
    from headstart.engines.torch_engine import DEFAULT_BATCH, TorchEngine
    from headstart.predict.network import build_network

    make_repeatable()
    num_views = len(bundle.spec["views"])
    own = min(DEFAULT_BATCH[device.split(":")[0]], max(_LEAST_BATCH, num_images * num_views))
    return TorchEngine(build_network(bundle, weights), device, batch or own, precision, clock)


def _graph(bundle: Bundle, digest: str, weights: Path | None) -> bytes | None:
    """Return the network as a graph, kept in the user's cache; None where it cannot be exported."""
    key = sha256_json({
        "bundle": digest,
        "spec": dict(bundle.spec),
        "layer": bundle.layer,
        **made_by(),
    })  # fmt: skip
    folder = user_folder()
    kept = find_graph(folder, key)
    if kept is not None:
        return kept
    from headstart.engines.export import make_graph
    from headstart.predict.network import build_network

    print(f"predict: exports {bundle.spec['backbone']} for ONNX Runtime, once", file=sys.stderr)
    network = build_network(bundle, weights)
    try:
        graph = make_graph(network, transform_of(bundle.spec).crop_px, [bundle.layer])
    except ExportError as error:
        print(f"predict: WARNING: {bundle.spec['backbone']} runs by torch, more slowly: {error}", file=sys.stderr)
        return None
    with suppress(OSError):  # a checkout that is only read
        keep_graph(folder, key, graph)
    return graph
