"""Checks of fine-tuning: every way to train works on a GPU and gives the same weights in every run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.lab import CLASSES, PACKAGED, Lab
from benchmarks.gpu.outcomes import Check, Outcome, below, same
from headstart.artifacts.features import open_features
from headstart.base.errors import HeadstartError
from headstart.tables.index import IndexRow
from stages.extract.extraction import extract
from stages.extract.params import Params as ExtractParams
from stages.finetune.params import Params
from stages.finetune.run import FineTuned, fine_tune

# For each way, the backbone and what differs from params.yaml.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": (PACKAGED, {"precision": "float32"}),
    "bfloat16": (PACKAGED, {"precision": "bfloat16"}),
    "float16": (PACKAGED, {"precision": "float16"}),
    "BatchNorm that trains": ("resnet18", {"batch_norm": "train"}),
    "mixup": ("resnet18", {"augmentation": {"kind": "crop", "mixup": 0.2}}),
    "accumulation": ("resnet18", {"accumulate": 4}),
    "frozen prefix": ("resnet18", {"unfreeze": "layer4", "augmentation": {"kind": "none"}}),
    "transformer": ("timm/vit_tiny_patch16_224", {"precision": "float32"}),
}


def training(lab: Lab) -> Iterator[Outcome]:
    """Train one epoch in every way, twice, then compare the losses of the precisions."""
    folder, index = lab.photos(lab.size(160, 48))
    ways = dict(list(WAYS.items())[:1]) if lab.is_small else WAYS
    for name, (backbone, changes) in ways.items():
        try:
            first, second = (train(lab, backbone, folder, index, changes) for _ in range(2))
        except (HeadstartError, RuntimeError) as error:
            yield Check(f"fine-tune, {name}", ok=False, value=f"{type(error).__name__}: {error}"[:200], limit="trains")
            continue
        yield same(f"fine-tune, {name}: kept weights of two runs", _tensors(first) == _tensors(second))
        # The kept weights may be those of the start. The losses come from all steps.
        yield same(f"fine-tune, {name}: losses of two runs", first.history == second.history)
    if not lab.is_small:
        losses = {name: _mean_loss(lab, name, folder, index) for name in ("float32", "bfloat16", "float16")}
        for name in ("bfloat16", "float16"):
            difference = abs(losses[name] - losses["float32"]) / losses["float32"]
            yield below(f"fine-tune, {name}: training loss against float32", difference, 0.05)


def _mean_loss(lab: Lab, precision: str, folder: Path, index: list[IndexRow]) -> float:
    """Return the mean training loss of weights that hardly move, because in float16 the first steps are skipped."""
    rates = {"backbone_rate": 1e-12, "head_rate": 1e-12}
    tuned = train(lab, PACKAGED, folder, index, {"precision": precision, "optimizer": rates})
    loss = tuned.history[-1].training_loss
    assert loss is not None, "the last epoch was trained"
    return loss


def train(lab: Lab, backbone: str, folder: Path, index: list[IndexRow], changes: dict[str, Any]) -> FineTuned:
    """Fine-tune a backbone for one epoch; the features are extracted first, if they are not there yet."""
    content = lab.sections(backbone, folder, finetune={"epochs": 1} | changes)
    content["finetune"]["schedule"] |= {"warmup_epochs": 0, "kind": "constant"}
    path = lab.path(backbone, f"_{len(index)}.h5")
    if not path.exists():
        params = ExtractParams.model_validate({name: content[name] for name in ExtractParams.model_fields})
        extract(index, params, path, lab.folder / "training_store")
    with open_features(path) as features:
        tuned = fine_tune(
            features,
            index,
            lab.split(index),
            classes=CLASSES,
            split_sha256="",
            params=Params.model_validate({name: content[name] for name in Params.model_fields}),
            watch=lambda _: None,
        )
    assert tuned is not None
    tuned.checkpoint.remove()
    return tuned


def _tensors(tuned: FineTuned) -> dict[str, bytes]:
    tensors = dict(tuned.bundle.backbone) | {"weight": tuned.bundle.weight, "bias": tuned.bundle.bias}
    return {name: np.ascontiguousarray(values).tobytes() for name, values in tensors.items()} | {
        "logits": tuned.predictions.logits.tobytes()
    }
