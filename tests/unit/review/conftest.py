"""A small project with made-up results of the stages, and a client of its review server."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from benchmarks.workspace import write_params
from headstart.artifacts.bundle import write_bundle
from headstart.artifacts.features import create_features
from headstart.artifacts.references import make_references
from headstart.backbone.params import BackboneParams
from headstart.review.server import make_app
from headstart.review.session import Session
from headstart.tables.classes import write_classes
from headstart.tables.head import LabelSuspect, NearDuplicate
from headstart.tables.index import IndexRow
from headstart.tables.predictions import Predictions, write_predictions
from headstart.tables.rows import write_rows
from headstart.tables.split import RelabelledRow, SplitRow
from tests.conftest import COLOURS, index_of, write_photos
from tests.support.bundles import make_bundle

TOKEN = "the-token"
CLASSES = sorted(COLOURS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a project: 12 photos in 3 classes; the first of each class is a test image."""
    root = tmp_path / "project"
    write_photos(root / "data/photos")
    write_params(root, "data/photos")
    (root / "data/photos/red/broken.jpg").write_bytes(b"no image")
    index = index_of(root / "data/photos")
    used = sorted((row for row in index if row.status == "ok"), key=lambda row: row.digest)
    split = [
        SplitRow(row.digest, row.path, label, "test" if "/0." in row.path else "train", row.digest)
        for row in used
        for label in [row.path.split("/")[0]]
    ]
    write_rows(root / "data/index.csv", index, IndexRow)
    write_results(root, split)
    return root


def write_results(root: Path, split: list[SplitRow]) -> None:
    """Write the results of `split`, `head` and `finetune`. The head finds green everywhere, and is surer each time."""
    write_rows(root / "data/split.csv", split, SplitRow)
    write_classes(root / "data/classes.json", CLASSES)
    for name, is_test, column in (("head", True, 1), ("head_out_of_fold", False, 1), ("finetune", True, 0)):
        rows = [row for row in split if (row.split == "test") == is_test]
        logits = np.zeros((len(rows), len(CLASSES)))
        logits[:, column] = 1 + np.arange(len(rows))
        write_predictions(root / f"predictions/{name}.csv", Predictions(*_columns(rows), CLASSES, logits))
    trained = [row for row in split if row.split == "train"]
    suspects = [
        LabelSuspect(row.digest, row.path, row.label, 0.1, "green", 0.8) for row in trained if row.label != "green"
    ]
    write_rows(root / "diagnostics/relabelled.csv", [], RelabelledRow)
    write_rows(root / "diagnostics/head/label_suspects.csv", suspects, LabelSuspect)
    one, other = next(row for row in split if row.split == "test"), trained[0]
    pair = NearDuplicate(one.digest, one.path, one.label, other.digest, other.path, other.label, 0.97)
    write_rows(root / "diagnostics/head/near_duplicates.csv", [pair], NearDuplicate)


def _columns(rows: list[SplitRow]) -> tuple[list[str], list[str], list[str]]:
    """Return the digests, paths and labels of rows."""
    return [row.digest for row in rows], [row.path for row in rows], [row.label for row in rows]


def write_neighbours(root: Path, backbone: BackboneParams, split: list[SplitRow]) -> None:
    """Write the features of all images and a head whose references are the training images, on a circle by label."""
    bundle = make_bundle(backbone, classes=CLASSES)
    random = np.random.default_rng(0)
    centres = random.normal(size=(len(CLASSES), 96))
    rows = np.stack([centres[CLASSES.index(row.label)] for row in split]) + 0.1 * random.normal(size=(len(split), 96))
    views = np.repeat(rows.astype(np.float32)[:, None], len(bundle.spec["views"]), axis=1)
    with create_features(root / "features/features.h5", [row.digest for row in split], bundle.spec, {"last": 96}) as to:
        to.append("last", views)
    references = make_references(*_columns(split), rows.astype(np.float32), bundle.references.held_out, dims=[96])
    write_bundle(root / "models/head", replace(bundle, references=references))


@pytest.fixture
def session(root: Path) -> Iterator[Session]:
    """A session of Ann's."""
    made = Session(root, "Ann")
    yield made
    made.close()


@pytest.fixture
def client(session: Session) -> TestClient:
    """A client of the server of this session, at the page's address."""
    return client_of(session)


def client_of(session: Session) -> TestClient:
    """Return a client of the server of a session, at the page's address."""
    return TestClient(
        make_app(session, TOKEN, "127.0.0.1"), f"http://127.0.0.1/{TOKEN}/", raise_server_exceptions=False
    )
