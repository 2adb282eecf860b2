"""Checks: a GPU gives the results that a CPU gives, and the same ones in every run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from benchmarks.gpu.lab import CLASSES, PACKAGED, Lab
from benchmarks.gpu.outcomes import Check, Outcome, below, same
from headstart.artifacts.bundle import Bundle, write_bundle
from headstart.artifacts.features import create_features, open_features
from headstart.artifacts.references import make_references
from headstart.backbone.spec import transform_of
from headstart.imaging.clock import Clock
from headstart.imaging.decode import decode
from headstart.predict.model import load
from headstart.tables.split import SplitRow
from stages.extract.embedder import Embedder, make_embedder
from stages.extract.extraction import extract
from stages.extract.params import Params as ExtractParams
from stages.head.fit import fit_head
from stages.head.params import Params as HeadParams

# The largest difference from the CPU's embeddings, as a fraction of their root mean square.
_NO_PHOTOS = Path("data/photos")  # named, not read
_LIMITS = {"float32": 1e-3, "float16": 2e-2}  # float16 only rounds
_LIMITS_RMS = {"float32": 1e-4, "float16": 1e-3}


def embeddings(lab: Lab) -> Iterator[Outcome]:
    """Compare the embeddings of photos with those of ONNX Runtime on the CPU, in both precisions."""
    for backbone in (PACKAGED, "resnet50"):
        exact = _embedder(lab, backbone, "float32", device="cpu")
        pixels = _pixels(lab, exact, lab.size(64, 8))
        expected = exact.engine.embed(pixels)
        for precision, limit in _LIMITS.items():
            found = _embedder(lab, backbone, precision).engine.embed(pixels)
            errors = [
                (found[layer].astype(np.float64) - rows) / np.sqrt((rows.astype(np.float64) ** 2).mean())
                for layer, rows in expected.items()
            ]
            largest, rms = (max(float(each(error)) for error in errors) for each in (_largest, _rms))
            yield below(f"{backbone}, {precision}: largest difference from the CPU's embeddings", largest, limit)
            yield below(f"{backbone}, {precision}: rms of the difference", rms, _LIMITS_RMS[precision])


def resize(lab: Lab) -> Iterator[Outcome]:
    """Resize made-up pictures on the GPU by every filter: the bits must be those of Pillow."""
    if torch.device(lab.device).type != "cuda":
        return
    embedder = _embedder(lab, PACKAGED, "float32")
    for interpolation in ("bilinear", "bicubic", "lanczos"):
        reason = embedder.engine.start_resizing(replace(transform_of(embedder.spec), interpolation=interpolation))
        yield Check(f"resize, {interpolation}: as by Pillow", not reason, reason or "the same bits", "the same bits")


def batches(lab: Lab) -> Iterator[Outcome]:
    """Embed the same pictures again, in another order, and fewer of them: the bits must not change."""
    for backbone in (PACKAGED, "resnet50"):
        embedder = _embedder(lab, backbone, "float32")
        pixels = _pixels(lab, embedder, lab.size(160, 8))
        first = embedder.engine.embed(pixels)
        order = np.random.default_rng(0).permutation(len(pixels))
        yield same(f"{backbone}: embedded twice", _equal(first, embedder.engine.embed(pixels)))
        permuted = {layer: rows[order] for layer, rows in first.items()}
        yield same(f"{backbone}: in another order", _equal(permuted, embedder.engine.embed(pixels[order])))
        few = {layer: rows[:3] for layer, rows in first.items()}
        yield same(f"{backbone}: three alone", _equal(few, embedder.engine.embed(pixels[:3])))


def out_of_memory(lab: Lab) -> Iterator[Outcome]:
    """Let the GPU run out of memory: the batch is halved, the rows stay, and no memory is lost."""
    if not torch.cuda.is_available():
        return
    small = _embedder(lab, "resnet50", "float32", batch=64).engine
    pixels = _pixels(lab, _embedder(lab, "resnet50", "float32"), 64)
    pixels = np.concatenate([pixels] * 8)
    expected = small.embed(pixels)
    needed = torch.cuda.max_memory_reserved()
    large = _embedder(lab, "resnet50", "float32", batch=512).engine
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_per_process_memory_fraction(1.5 * needed / torch.cuda.get_device_properties(0).total_memory)
    found = large.embed(pixels)
    torch.cuda.set_per_process_memory_fraction(1.0)
    yield Check("out of memory: the batch is halved", large.batch < 512, f"512 to {large.batch}", "below 512")
    reference = (
        expected if large.batch == 64 else _embedder(lab, "resnet50", "float32", batch=large.batch).engine.embed(pixels)
    )
    yield same(f"out of memory: rows as of a batch of {large.batch}", _equal(found, reference))
    held = torch.cuda.memory_allocated() - before
    yield below("out of memory: MiB still held", held / 2**20, 300)


def head(lab: Lab) -> Iterator[Outcome]:
    """Fit the head on the GPU and on the CPU: the same layer and strength, and the same probabilities."""
    num, dim, num_classes = lab.size(30_000, 1_500), lab.size(512, 32), lab.size(80, 4)
    path = lab.folder / "head.h5"
    labels = write_features(path, num, dim, num_classes)
    split = [_row(number, label) for number, label in enumerate(labels)]
    classes = sorted(set(labels))
    fits = []
    with open_features(path) as features, threadpool_limits(limits=1, user_api="blas"):
        for device in ("cpu", lab.device):
            content = lab.sections(PACKAGED, _NO_PHOTOS, runtime={"device": device})
            params = HeadParams(head=content["head"], runtime=content["runtime"])
            fits.append(fit_head(features, split, classes, params))
        rows = features.read("last", [row.digest for row in split[:2000]])[:, 0].astype(np.float64)
    probabilities = [softmax(rows @ each.model.weight.T + each.model.bias, axis=1) for each in fits]
    cpu, gpu = fits
    yield Check("head: strength as on the CPU", cpu.score.c == gpu.score.c, f"{gpu.score.c}", f"{cpu.score.c}")
    difference = float(np.abs(probabilities[0] - probabilities[1]).max())
    # Many rows end at a looser gradient (head.tol), so the two fits stop a little apart.
    yield below("head: largest difference of a probability from the CPU's", difference, 2e-3)


def predict(lab: Lab) -> Iterator[Outcome]:
    """Predict photos by a bundle on the GPU: as by the cached embeddings."""
    folder, index = lab.photos(lab.size(200, 24))
    content = lab.sections(PACKAGED, folder)
    params = _extract_params(content)
    path = lab.folder / "predict.h5"
    extract(index, params, path, lab.folder / "predict_store")
    random = np.random.default_rng(0)
    with open_features(path) as features:
        layer = features.spec["layers"][-1]
        digests = [row.digest for row in index]
        stored = features.read(layer, digests)
        weight = random.normal(size=(2, stored.shape[2])).astype(np.float32)
        bundle = _bundle(features.spec, layer, weight, stored)
    write_bundle(lab.folder / "bundle", bundle)
    model = load(lab.folder / "bundle", device=lab.device, num_images=len(index))
    found = model.embed([folder / row.path for row in index])
    scale = float(np.sqrt((stored.astype(np.float64) ** 2).mean()))
    yield below("predict: largest difference from the features", float(np.abs(found - stored).max()) / scale, 1e-3)
    classes = [one.predicted for one in model.predict([folder / row.path for row in index])]
    expected = [CLASSES[column] for column in bundle.logits(stored).argmax(axis=1)]
    agreement = float(np.mean([one == other for one, other in zip(classes, expected, strict=True)]))
    yield Check("predict: classes as by the features", agreement == 1, f"{agreement:.3f}", "1")


def write_features(path: Path, num: int, dim: int, num_classes: int) -> list[str]:
    """Write a features file of overlapping classes and return the label of each row."""
    random = np.random.default_rng(0)
    labels = random.integers(num_classes, size=num)
    centres = random.normal(size=(num_classes, dim)).astype(np.float32)
    spec: dict[str, Any] = {"layers": ["last"], "views": [{}], "precision": "float32"}
    with create_features(path, [f"{number:064x}" for number in range(num)], spec, {"last": dim}) as writer:
        for start in range(0, num, 10_000):
            part = labels[start : start + 10_000]
            rows = random.standard_normal(size=(len(part), dim), dtype=np.float32) * 4 + centres[part]
            writer.append("last", rows[:, None])
    return [f"class{label:03}" for label in labels]


def _row(number: int, label: str) -> SplitRow:
    return SplitRow(f"{number:064x}", f"{number}.jpg", label, "train", f"{number:064x}")


def _extract_params(content: dict[str, Any]) -> ExtractParams:
    return ExtractParams.model_validate({name: content[name] for name in ExtractParams.model_fields})


def _embedder(
    lab: Lab, backbone: str, precision: str, *, device: str | None = None, batch: int | str = "auto"
) -> Embedder:
    runtime = {"device": device or lab.device, "batch": batch}
    content = lab.sections(backbone, _NO_PHOTOS, runtime=runtime, extract={"precision": precision})
    (lab.folder / "engines").mkdir(exist_ok=True)
    return make_embedder(_extract_params(content), 375, lab.folder, Clock())


def _pixels(lab: Lab, embedder: Embedder, num: int) -> NDArray[np.uint8]:
    folder, index = lab.photos(num)
    transform = transform_of(embedder.spec)
    return np.stack([transform.pixels(decode((folder / row.path).read_bytes(), 10**8).image) for row in index])


def _bundle(spec: dict[str, Any], layer: str, weight: NDArray[np.float32], rows: NDArray[np.float32]) -> Bundle:
    digests = [f"{number:064x}" for number in range(len(rows))]
    labels = [CLASSES[number % 2] for number in range(len(rows))]
    held_out = np.full((len(rows), 2), 0.5, dtype=np.float32)
    references = make_references(digests, digests, labels, rows[:, 0], held_out, dims=[rows.shape[2]])
    return Bundle(
        track="head",
        classes=CLASSES,
        spec=spec,
        layers=[layer],
        dims=[rows.shape[2]],
        temperature=1.0,
        trained_on={"num_images": len(rows)},
        weight=weight,
        bias=np.zeros(2, np.float32),
        references=references,
    )


def _equal(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    return all(np.array_equal(one[layer], other[layer]) for layer in one)


def _largest(error: NDArray[np.float64]) -> float:
    return float(np.abs(error).max())


def _rms(error: NDArray[np.float64]) -> float:
    return float(np.sqrt((error**2).mean()))
