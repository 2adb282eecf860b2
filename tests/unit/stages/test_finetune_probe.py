"""The probe: fine-tuning starts from the classifier that stage `head` would train on the same images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart.artifacts.features import open_features
from headstart.tables.index import IndexRow
from stages.finetune.params import Params
from stages.finetune.probe import fit_probe
from stages.finetune.subsets import LabelledImage
from tests.support.head_data import digests_of
from tests.support.source import ROOT
from tests.unit.stages.test_head import NUM, NUM_TRAINING, Layers, blobs, heavy_tails, train


@pytest.mark.parametrize(("data", "kind"), [(blobs, "ridge"), (heavy_tails, "logistic")])
def test_the_probe_is_the_head(tmp_path: Path, data: Callable[[], tuple[Layers, list[str]]], kind: str) -> None:
    """Its calibrated logits are those of the head on the same layers, whatever kind the folds choose."""
    layers, labels = data()
    layers = {"last": layers["middle"]}
    head = train(tmp_path, layers, labels)
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["finetune"] |= {"folds": 3, "probe_c_grid": [0.001, 0.1, 10.0]}
    params = Params(**{name: content[name] for name in Params.model_fields})
    images = [
        LabelledImage(IndexRow("a.png", digest, "PNG", 8, 8, "ok", ""), label, digest)
        for digest, label in zip(digests_of(NUM)[:NUM_TRAINING], labels, strict=False)
    ]
    with open_features(tmp_path / "f.h5") as features:
        probe = fit_probe(features, images, sorted(set(labels)), params)

    assert head.fitted.kind == kind
    assert probe.layers == ("last",)
    assert np.allclose(probe.model.logits(layers["last"][NUM_TRAINING:]), head.predictions.logits, atol=1e-3)
