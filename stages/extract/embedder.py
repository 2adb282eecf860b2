"""The embedder: makes the spec of the embeddings, and the engine that computes them, from the params."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.backbone.spec import BackboneFacts, make_spec
from headstart.base.errors import BackboneError, ParamsError
from headstart.base.machine import choose_device, make_repeatable
from headstart.engines.engine import Engine, ExportError, engines_to_try
from headstart.engines.export_process import backbone_key, export_backbone, find_backbone_graph, find_facts
from headstart.imaging.clock import Clock
from headstart.imaging.transform import make_views
from stages.extract.params import Params


@dataclass(frozen=True)
class Embedder:
    """The spec and the engine of this run.

    Attributes:
        spec: All that the embeddings depend on besides the images.
        engine: Engine that runs the network.
        device: Device that it runs on, such as `cpu`.
    """

    spec: dict[str, Any]
    engine: Engine
    device: str


def make_embedder(params: Params, median_short_side_px: float, root: Path, clock: Clock) -> Embedder:
    """Choose the device, and take the first engine that can run the network there.

    Args:
        params: Params of the stage.
        median_short_side_px: Median of the shorter sides of all images.
        root: Folder of the stores, which also keeps exported networks.
        clock: Clock of the engine.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built, or the chosen engine cannot run it.
        ParamsError: This machine does not have the device or engine.
    """
    device = choose_device(params.runtime.device)
    names = engines_to_try(params.runtime, device)
    for name, next_name in zip(names, [*names[1:], None], strict=True):
        try:
            return EMBEDDERS[name](params, median_short_side_px, root, device, clock)
        except ExportError as error:
            if next_name is None:
                raise BackboneError(
                    f"runtime.engine: ONNX Runtime cannot run this backbone: {error}. Set it to auto or torch."
                ) from error
            print(f"extract: WARNING: {params.backbone.name} runs in {next_name}, which is slower: {error}")
    raise AssertionError("the last engine returns or raises")


def _onnx_embedder(params: Params, median_short_side_px: float, root: Path, device: str, clock: Clock) -> Embedder:
    if device != "cpu":
        raise ParamsError(f"runtime.engine: onnx runs on the CPU only; the device is {device}; expected auto or torch")
    from headstart.engines.onnx_engine import OnnxEngine  # a machine with a GPU need not have ONNX Runtime

    key, folder, px = backbone_key(params.backbone), root / "engines", params.transform.px
    with ExitStack() as stack:
        found = _find_kept(folder, key, px, median_short_side_px)
        if found is None:
            if not os.access(root, os.W_OK):  # the store is read-only
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            print(f"extract: exporting {params.backbone.name} for ONNX Runtime (once)", flush=True)
            export_backbone(params.backbone, px, median_short_side_px, folder)
            found = _find_kept(folder, key, px, median_short_side_px)
        assert found is not None, "what was just written is there"
    facts, layers, graph = found
    engine = OnnxEngine(
        graph, params.runtime.num_workers, params.runtime.batch_or_none, params.extract.precision, clock
    )
    return Embedder(_spec(params, facts, median_short_side_px, layers), engine, "cpu")


def _find_kept(
    folder: Path, key: str, px: int | str, median_short_side_px: float
) -> tuple[BackboneFacts, list[str], bytes] | None:
    known = find_facts(folder, key)
    if known is None:
        return None
    facts = BackboneFacts.from_json(known["facts"])
    crop_px = facts.transform_for(px, median_short_side_px).crop_px
    graph = find_backbone_graph(folder, key, crop_px, facts.weights_sha256)
    return None if graph is None else (facts, known["layers"], graph)


def _torch_embedder(
    params: Params,
    median_short_side_px: float,
    root: Path,  # noqa: ARG001 - torch keeps nothing there
    device: str,
    clock: Clock,
) -> Embedder:
    from headstart.backbone.build import build_embedding_network  # imports torch, which takes seconds
    from headstart.engines.torch_engine import TorchEngine, default_batch

    make_repeatable()
    facts, network = build_embedding_network(params.backbone, params.transform.px, median_short_side_px)
    spec = _spec(params, facts, median_short_side_px, network.layers)
    batch = params.runtime.batch_or_none or default_batch(device, spec["transform"]["crop_px"])
    engine = TorchEngine(network, device, batch, params.extract.precision, clock)
    return Embedder(spec, engine, device)


EMBEDDERS = {"onnx": _onnx_embedder, "torch": _torch_embedder}


def _spec(params: Params, facts: BackboneFacts, median_short_side_px: float, layers: Sequence[str]) -> dict[str, Any]:
    return make_spec(
        facts,
        facts.transform_for(params.transform.px, median_short_side_px),
        layers,
        pooling=params.backbone.pooling,
        views=make_views(params.extract.views, params.extract.seed),
        precision=params.extract.precision,
        decode=params.transform.decode,
    )
