"""Runs of fine-tuning on two dozen photos, for tests."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from headstart.backbone.params import BackboneParams
from headstart.tables.index import IndexRow
from headstart.tables.rows import read_rows
from headstart.tables.split import SplitRow
from stages.finetune.params import Params
from stages.finetune.run import FineTuned
from tests.conftest import COLOURS
from tests.support.source import ROOT

CLASSES = sorted(COLOURS)
Tune = Callable[..., FineTuned]


def finetune_params(
    photos: Path, backbone: BackboneParams, runtime: Mapping[str, Any] | None = None, **changes: Any
) -> Params:
    """Return the shipped params, made small for two dozen photos, with changes (`section__key` for nested sections)."""
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    section = content["finetune"] | {"folds": 3, "epochs": 2, "batch": 4, "precision": "float32"}
    section["schedule"] |= {"warmup_epochs": 0}
    for name, value in changes.items():
        *sections, key = name.split("__")
        target = section
        for inner in sections:
            target = target[inner]
        target[key] = value
    return Params(
        data={"path": str(photos)},
        backbone=backbone.model_dump(),
        finetune=section,
        runtime=content["runtime"] | {"device": "cpu", "workers": 2, "processes": 1} | dict(runtime or {}),
    )


def rows_of(project: Path, split: str | None = None) -> tuple[list[IndexRow], list[SplitRow]]:
    """Return index and split: two images of each class are test images, the others are for training."""
    index = read_rows(project / "index.csv", IndexRow)
    test_images = {f"{name}/{number}" for name in CLASSES for number in (0, 1)}
    return index, [
        SplitRow(
            row.digest,
            row.path,
            row.path.split("/")[0],
            "test" if row.path.split(".")[0] in test_images else split or "train",
            row.digest,
        )
        for row in index
        if row.status == "ok"
    ]


def tensors_of(tuned: FineTuned) -> Mapping[str, Any]:
    """Return all tensors of a bundle by name."""
    return {"weight": tuned.bundle.weight, "bias": tuned.bundle.bias, **tuned.bundle.backbone}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Return the names of tensors that are not equal, bit for bit."""
    assert one.keys() == other.keys()
    return {name for name in one if not np.array_equal(one[name], other[name])}
