"""A project with two commits and a workspace."""

import shutil
from pathlib import Path

import pytest

from headstart.tables.split import SplitRow
from tests.support.revisions import CLASSES, RevisionsProject, digest, path, predictions

NUM_TEST, NUM_IMAGES = 60, 80


def images(num: int = NUM_IMAGES, *, first_training: int = NUM_TEST) -> list[SplitRow]:
    """Return the split: the first images are tested."""
    rows = [
        SplitRow(digest(one), path(one), CLASSES[one % 3], "test" if one < first_training else "train", digest(one))
        for one in range(num)
    ]
    return sorted(rows, key=lambda row: row.digest)


@pytest.fixture(scope="session")
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = RevisionsProject(tmp_path_factory.mktemp("revisions") / "project")
    made.create()
    made.write(predictions([True] * 50 + [False] * 10), images=images())
    made.commit()
    made.run("git", "tag", "good")
    made.write(predictions([True] * 30 + [False] * 30, seed=1), images=images(70), params={"c": 2.0, "seed": 1})
    made.commit()
    return made.root


@pytest.fixture
def project(_made_once: Path, tmp_path: Path) -> RevisionsProject:
    """Return a project: at `good` 50 of 60 images are right, then, as in the workspace, 30."""
    return RevisionsProject(shutil.copytree(_made_once, tmp_path / "project"))
