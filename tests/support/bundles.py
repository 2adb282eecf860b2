"""Bundles of a tiny network, of both tracks, with random heads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstart.artifacts.bundle import Bundle, write_bundle
from headstart.artifacts.references import make_references
from headstart.backbone.build import build_backbone
from headstart.backbone.params import BackboneParams
from headstart.backbone.spec import make_spec
from headstart.imaging.transform import make_views

CLASSES = ("red", "green", "blue, or\n<b>so</b>")


def make_bundle(
    backbone: BackboneParams,
    *,
    track: str = "head",
    views: int = 2,
    layers: Sequence[str] = ("last",),
    classes: Sequence[str] = CLASSES,
    px: int = 64,
    **changes: Any,
) -> Bundle:
    """Return a bundle with a random head. One of the track `finetune` holds the tensors of its network."""
    random = np.random.default_rng(0)
    built = build_backbone(backbone)
    transform = built.facts.transform_for(px, 64)
    dims = [{"last": 96, "layer3": 192}[layer] for layer in layers]
    spec = make_spec(
        built.facts,
        transform,
        list(layers),
        pooling=backbone.pooling,
        views=make_views(views, 0),
        precision="float32",
        decode="scaled",
    )
    tensors = {name: tensor.numpy() for name, tensor in built.network.state_dict().items()}
    digests = sorted(f"{number:064x}" for number in random.integers(0, 2**60, 20))
    labels = [classes[number % len(classes)] for number in range(20)]
    values: dict[str, Any] = {
        "track": track,
        "classes": list(classes),
        "spec": spec,
        "layers": list(layers),
        "dims": dims,
        "temperature": 1.7,
        "trained_on": {"num_images": 20},
        "weight": random.normal(size=(len(classes), sum(dims))).astype(np.float32),
        "bias": random.normal(size=len(classes)).astype(np.float32),
        "references": make_references(
            digests,
            [f"{label}/{number}.png" for number, label in enumerate(labels)],
            labels,
            random.normal(size=(20, sum(dims))).astype(np.float32),
            random.uniform(size=(50, 2)).astype(np.float32),
            dims=dims,
        ),
        "backbone": tensors if track == "finetune" else {},
    }
    return Bundle(**values | changes)


def written(folder: Path, bundle: Bundle) -> Path:
    """Write a bundle, and return its folder."""
    write_bundle(folder, bundle)
    return folder
