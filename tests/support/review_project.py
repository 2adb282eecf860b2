"""A small project with the results that the review page shows, made up in a moment."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.artifacts.bundle import Bundle, write_bundle
from headstart.artifacts.features import create_features
from headstart.artifacts.references import make_references
from headstart.base.files import sha256_file
from headstart.tables.classes import write_classes
from headstart.tables.head import LabelSuspect, NearDuplicate
from headstart.tables.index import IndexRow
from headstart.tables.predictions import Predictions, write_predictions
from headstart.tables.rows import write_rows
from headstart.tables.split import RelabelledRow, SplitRow
from tests.support.source import ROOT

NUM_PHOTOS, NUM_SUSPECTS = 40, 12
_DIM = 8
_SPEC = {"backbone": "made up", "layers": ["last"], "views": ["centre"], "precision": "float32"}


def write_project(root: Path, classes: Sequence[str], *, name: str = "{number:02d}.png") -> list[SplitRow]:
    """Write 40 photos of several classes with their results; of five images the last is a test image.

    Args:
        root: Folder of the project.
        classes: Names of the classes.
        name: Name of a photo's file, with its number.

    Returns:
        The images, in the order of their numbers. The first training images are the label suspects, in this order, and
        the class after the label is what the head prefers.
    """
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "path: data/digits" in params
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(params.replace("path: data/digits", "path: data/photos"), encoding="utf-8")
    index, split = [], []
    for number in range(NUM_PHOTOS):
        path = root / "data/photos" / str(number % len(classes)) / name.format(number=number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (160, 120), (40 + 5 * number, 240 - 5 * number, 80 * (number % 3))).save(path)
        below, digest = path.relative_to(root / "data/photos").as_posix(), sha256_file(path)
        index.append(IndexRow(below, digest, "PNG", 160, 120, "ok", ""))
        part = "test" if number % 5 == 4 else "train"
        split.append(SplitRow(digest, below, classes[number % len(classes)], part, digest))
    index.append(IndexRow("bad.png", "", "", 0, 0, "quarantined", "damaged: <b>no image</b>"))
    write_rows(root / "data/index.csv", index, IndexRow)
    write_rows(root / "data/split.csv", sorted(split, key=lambda row: row.digest), SplitRow)
    write_classes(root / "data/classes.json", classes)
    _write_results(root, split, classes)
    return split


def _write_results(root: Path, split: Sequence[SplitRow], classes: Sequence[str]) -> None:
    random = np.random.default_rng(0)
    ascending = sorted(split, key=lambda row: row.digest)
    test = [row for row in ascending if row.split == "test"]
    train = [row for row in ascending if row.split == "train"]
    for table, rows in (("head", test), ("finetune", test), ("head_out_of_fold", train)):
        logits = random.normal(size=(len(rows), len(classes)))
        write_predictions(root / f"predictions/{table}.csv", Predictions(*_names(rows), classes, logits))
    suspects = [row for row in split if row.split == "train"][:NUM_SUSPECTS]
    preferred = {label: classes[(place + 1) % len(classes)] for place, label in enumerate(classes)}
    found = [
        LabelSuspect(row.digest, row.path, row.label, 0.01 * place, preferred[row.label], 0.9)
        for place, row in enumerate(suspects, start=1)
    ]
    write_rows(root / "diagnostics/relabelled.csv", [], RelabelledRow)
    write_rows(root / "diagnostics/head/label_suspects.csv", found, LabelSuspect)
    pairs = [
        NearDuplicate(*(one.digest, one.path, one.label, other.digest, other.path, other.label), similarity=0.98)
        for one, other in zip(test[:3], train, strict=False)
    ]
    write_rows(root / "diagnostics/head/near_duplicates.csv", pairs, NearDuplicate)
    embeddings = random.normal(size=(len(ascending), _DIM)).astype(np.float32)
    digests = [row.digest for row in ascending]
    (root / "features").mkdir()
    with create_features(root / "features/features.h5", digests, _SPEC, {"last": _DIM}) as writer:
        writer.append("last", embeddings[:, None])
    is_training = np.array([row.split == "train" for row in ascending])
    bundle = Bundle(
        track="head",
        classes=list(classes),
        spec=_SPEC,
        layers=["last"],
        dims=[_DIM],
        temperature=1.0,
        trained_on={"num_images": len(train)},
        weight=random.normal(size=(len(classes), _DIM)).astype(np.float32),
        bias=np.zeros(len(classes), dtype=np.float32),
        references=make_references(
            *_names(train), embeddings[is_training], np.full((5, 2), 0.5, np.float32), dims=[_DIM]
        ),
        backbone={},
    )
    write_bundle(root / "models/head", bundle)


def _names(rows: Sequence[SplitRow]) -> tuple[list[str], list[str], list[str]]:
    return [row.digest for row in rows], [row.path for row in rows], [row.label for row in rows]
