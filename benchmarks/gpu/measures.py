"""Measures: how fast a GPU embeds, trains and fits the head, beside the tutorials' loops on the same GPU."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.gpu.checks import write_features
from benchmarks.gpu.lab import PACKAGED, Lab
from benchmarks.gpu.outcomes import Check, Measure, Outcome
from benchmarks.gpu.rivals import extraction_rate, training_rate
from benchmarks.gpu.training_checks import train
from benchmarks.rounds import median_and_spread
from headstart.artifacts.features import open_features
from headstart.base.machine import make_repeatable
from headstart.base.threads import in_order, num_cores
from headstart.imaging.clock import peak_memory_bytes
from headstart.imaging.decode import decode
from headstart.tables.index import IndexRow
from headstart.tables.split import SplitRow
from stages.extract.extraction import Extraction, extract
from stages.extract.params import Params as ExtractParams
from stages.head.fit import fit_head
from stages.head.params import Params as HeadParams

_ROUNDS = 3


def machine(lab: Lab) -> Iterator[Outcome]:
    """Measure what the machine gives at most: copies to the GPU and matrix products."""
    num = lab.size(2**28, 2**20)
    host = torch.empty(num, dtype=torch.uint8, pin_memory=_is_cuda(lab))
    seconds = _seconds(lab, lambda: host.to(lab.device, non_blocking=True))
    yield _measure("copy from pinned memory to the GPU", [num / each / 1e9 for each in seconds], "GB/s")
    side = lab.size(8192, 256)
    for name, dtype, allow_tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("float16", torch.float16, False),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = allow_tf32
        one = torch.randn(side, side, device=lab.device, dtype=dtype)
        rates = [2 * side**3 / each / 1e12 for each in _seconds(lab, partial(torch.matmul, one, one))]
        yield _measure(f"matrix product of {side}, {name}", rates, "TFLOP/s")
    torch.backends.cuda.matmul.allow_tf32 = False


def forward(lab: Lab) -> Iterator[Outcome]:
    """Measure bare forward passes: what extract could reach at most."""
    make_repeatable()
    for backbone in (PACKAGED, "resnet50"):
        lab.sections(backbone, Path("data/photos"))  # makes the weights
        network = lab.network(backbone).to(lab.device).to(memory_format=torch.channels_last)
        for batch in (32, 128, 512) if not lab.is_small else (2,):
            pixels = torch.rand(batch, 3, 224, 224, device=lab.device).to(memory_format=torch.channels_last)
            for name, run in _ways(lab, network, pixels):
                rates = [batch / each for each in _seconds(lab, run)]
                yield _measure(f"{backbone}, forward pass of {batch}, {name}", rates, "images/s")


def _ways(lab: Lab, network: torch.nn.Module, pixels: torch.Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    kind = torch.device(lab.device).type

    @torch.inference_mode()
    def run(dtype: torch.dtype | None = None) -> torch.Tensor:
        with torch.autocast(kind, dtype, enabled=dtype is not None):
            result: torch.Tensor = network(pixels)
            return result

    yield "float32", run
    if _is_cuda(lab):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        yield "TF32", run
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        yield "float32, CUDA graph", _as_graph(network, pixels).replay
        yield "float16 by autocast", lambda: run(torch.float16)
        half, halves = network.half(), pixels.half()
        with torch.inference_mode():
            yield "float16 weights", lambda: half(halves)
        yield "float16 weights, CUDA graph", _as_graph(half, halves).replay
        network.float()


@torch.inference_mode()
def _as_graph(network: torch.nn.Module, pixels: torch.Tensor) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    for _ in range(3):
        network(pixels)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        network(pixels)
    return graph


def decoding(lab: Lab) -> Iterator[Outcome]:
    """Measure whole JPEG files decoded by torchvision, on a GPU by nvJPEG, against Pillow in threads."""
    folder, index = lab.photos(lab.size(512, 16))
    files = [(folder / row.path).read_bytes() for row in index]
    encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    batches = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]

    def by_pillow() -> list[NDArray[np.uint8]]:
        return list(in_order(lambda data: np.asarray(decode(data, 10**6).image), files, num_cores()))

    def by_torchvision() -> list[torch.Tensor]:
        return [picture for batch in batches for picture in decode_jpeg(batch, ImageReadMode.RGB, lab.device)]

    try:
        found = by_torchvision()
    except RuntimeError as error:  # this build of torchvision has no nvJPEG
        yield Check("torchvision decodes JPEG on this device", ok=True, value=f"no: {error}"[:200], limit="yes or no")
        return
    pairs = zip(by_pillow(), found, strict=True)
    apart = [np.abs(one.astype(np.int16) - other.permute(1, 2, 0).cpu().numpy()) for one, other in pairs]
    yield Measure(
        "decoding, torchvision: largest difference from Pillow", max(float(one.max()) for one in apart), "levels"
    )
    yield Measure("decoding, torchvision: mean difference", float(np.mean([one.mean() for one in apart])), "levels")
    for name, work in (("Pillow, a thread for each core", by_pillow), ("torchvision, batches of 64", by_torchvision)):
        yield _measure(f"decoding, {name}", [len(files) / each for each in _seconds(lab, work)], "images/s")


def extraction(lab: Lab) -> Iterator[Outcome]:
    """Measure extract on JPEG photos against the tutorials' loop, and where its seconds go."""
    small, large = lab.photos(lab.size(4000, 24)), lab.large_photos(lab.size(256, 2))
    for backbone, size, (folder, index) in (
        (PACKAGED, "12 Mpx", large),
        (PACKAGED, "500 x 375", small),
        ("resnet50", "500 x 375", small),
    ):
        what = f"{backbone}, photos of {size}"
        content = lab.sections(backbone, folder)
        network = lab.network(backbone).to(memory_format=torch.channels_last)
        paths = [folder / row.path for row in index]
        rival = extraction_rate(paths, network, lab.device)
        yield Measure(f"{what}: the tutorials' loop", rival, "images/s")
        ours = []
        for number in range(2):
            done = _extract(content, index, lab.folder / f"{backbone}_{size}_{number}")
            ours.append(done.num_embedded / done.embedding_seconds)
        yield _measure(f"{what}: extract", ours, "images/s")
        if _is_cuda(lab):
            content["runtime"]["gpu_resize"] = True
            resized = _extract(content, index, lab.folder / f"{backbone}_{size}_resized")
            rate = resized.num_embedded / resized.embedding_seconds
            yield Measure(f"{what}: extract, resized on the GPU", rate, "images/s")
            yield Measure(f"{what}: resized on the GPU / on the CPU", rate / max(ours), "x")
        yield Measure(f"{what}: memory of this process", peak_memory_bytes() / 2**20, "MiB")
        yield Measure(f"{what}: extract / tutorials' loop", max(ours) / rival, "x")
        for step, seconds in done.clock.seconds.items():
            yield Measure(f"{what}: {step}, over all threads", 1e3 * seconds / len(index), "ms an image")


def _extract(content: dict[str, Any], index: list[IndexRow], root: Path) -> Extraction:
    root.mkdir()
    params = ExtractParams.model_validate({name: content[name] for name in ExtractParams.model_fields})
    return extract(index, params, root / "features.h5", root)


def finetuning(lab: Lab) -> Iterator[Outcome]:
    """Measure an epoch of fine-tuning against the tutorial's loop."""
    folder, index = lab.photos(lab.size(1000, 48))
    backbones = (PACKAGED,) if lab.is_small else (PACKAGED, "resnet18")
    for backbone in backbones:
        changes: dict[str, Any] = {"init": "random", "batch_norm": "train"}
        changes |= {"optimizer": {"kind": "sgd", "backbone_rate": 0.001, "head_rate": 0.001}}
        changes |= {"augmentation": {"kind": "crop", "min_area": 0.08}}
        for batch in (32, 128) if not lab.is_small else (8,):
            lab.sections(backbone, folder)
            paths = [folder / row.path for row in index]
            rival = training_rate(paths, lab.network(backbone), lab.device, batch, half=True)
            yield Measure(f"fine-tune {backbone}, batch {batch}: the tutorial's loop", rival, "images/s")
            # A new size of a batch takes cuDNN seconds, so the first epoch comes apart.
            cold, tuned = (train(lab, backbone, folder, index, changes | {"batch": batch}).timings for _ in range(2))
            yield Measure(f"fine-tune {backbone}, batch {batch}: first epoch", cold.training_seconds, "s")
            yield Measure(f"fine-tune {backbone}, batch {batch}: second epoch", tuned.training_seconds, "s")
            rate = tuned.num_images / tuned.training_seconds
            yield Measure(f"fine-tune {backbone}, batch {batch}: ours", rate, "images/s")
            yield Measure(f"fine-tune {backbone}, batch {batch}: ours / tutorial's loop", rate / rival, "x")


def head_fit(lab: Lab) -> Iterator[Outcome]:
    """Measure the fit of the head on many rows, on the GPU and on the CPU of the same machine."""
    num, dim, num_classes = lab.size(60_000, 1_500), lab.size(2048, 32), lab.size(100, 4)
    path = lab.folder / "many.h5"
    labels = write_features(path, num, dim, num_classes)
    split = [SplitRow(f"{n:064x}", f"{n}.jpg", label, "train", f"{n:064x}") for n, label in enumerate(labels)]
    seconds = {}
    for device in dict.fromkeys((lab.device, "cpu")):
        content = lab.sections(PACKAGED, Path("data/photos"), runtime={"device": device})
        params = HeadParams(head=content["head"], runtime=content["runtime"])
        with open_features(path) as features, threadpool_limits(limits=1, user_api="blas"):
            start = time.perf_counter()
            fit_head(features, split, sorted(set(labels)), params)
            seconds[device] = time.perf_counter() - start
        yield Measure(f"head on {num} x {dim} x {num_classes}, {device}", seconds[device], "s")


def _seconds(lab: Lab, work: Callable[[], object]) -> list[float]:
    """Return seconds of one call, by round; each round takes about a fifth of a second."""
    for _ in range(3):
        work()
    _wait(lab)
    start = time.perf_counter()
    work()
    _wait(lab)
    num = max(1, min(1000, int(0.2 / (time.perf_counter() - start))))
    rounds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(num):
            work()
        _wait(lab)
        rounds.append((time.perf_counter() - start) / num)
    return rounds


def _wait(lab: Lab) -> None:
    if _is_cuda(lab):
        torch.cuda.synchronize()


def _measure(name: str, values: list[float], unit: str) -> Measure:
    median, spread = median_and_spread(values)
    return Measure(name, median, unit, spread)


def _is_cuda(lab: Lab) -> bool:
    return torch.device(lab.device).type == "cuda"
