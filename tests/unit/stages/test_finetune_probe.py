"""The probe: fine-tuning starts from the classifier that stage `head` would train on the same images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from headstart.artifacts.features import open_features
from headstart.backbone.build import build_backbone
from headstart.backbone.params import BackboneParams
from headstart.imaging.transform import Transform
from headstart.linear.model import LinearModel
from headstart.tables.index import IndexRow
from stages.finetune.classifier import Classifier
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


def test_the_head_that_learns_is_the_model_that_is_shipped(tiny_backbone: BackboneParams) -> None:
    """After its weights have moved, the classifier gives the logits of its linear model on its embeddings."""
    transform = Transform(64, 64, squash=False, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)
    network = build_backbone(tiny_backbone).network
    classifier = Classifier(network, transform, ["layer3", "last"], "mean", num_classes=3, seed=0).eval()
    dim, random = classifier.head.in_features, np.random.default_rng(0)
    model = LinearModel(random.normal(size=(3, dim)), random.normal(size=3))
    classifier.start_from(model, random.normal(size=dim), random.uniform(0.5, 2, size=dim))
    pictures = torch.from_numpy(random.uniform(size=(4, 3, 64, 64)).astype(np.float32))
    with torch.inference_mode():
        embeddings = classifier.embed(pictures).numpy()
        assert np.allclose(classifier(pictures).numpy(), model.logits(embeddings), atol=1e-3)
        classifier.head.weight.add_(0.1)
        classifier.head.bias.add_(0.5)
        moved = classifier(pictures).numpy()

    assert np.allclose(moved, classifier.linear_model().logits(embeddings), atol=1e-3)
    assert not np.allclose(moved, model.logits(embeddings), atol=0.1)
