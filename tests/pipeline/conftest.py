"""A finished project, run once for all pipeline tests, from which each takes a copy of its own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.backbone.params import BackboneParams
from tests.conftest import made_once
from tests.support.project import Project, clone_project, watched_repro

STAGES = {
    *("index", "split", "extract", "head", "finetune", "evaluate@head", "evaluate@finetune", "compare", "projection"),
    *("robustness", "report"),
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams, engines: Path) -> Project:
    """A clone on a dozen generated photos with a tiny random backbone, run once and committed. Not to be changed."""
    with made_once(tmp_path_factory, "finished") as (folder, is_there):
        project = Project(folder / "project")
        if not is_there:
            clone_project(project.root)
            project.use_photos(tiny_backbone, engines)
            assert set(watched_repro(project)) == STAGES
            project.commit()
    return project


@pytest.fixture(scope="session")
def copy_of_finished(finished: Project) -> Callable[[Path], Project]:
    """A function that copies the finished project, with its cache and history, to a new folder."""

    def copy(root: Path) -> Project:
        shutil.copytree(finished.root, root, symlinks=True)
        shutil.copytree(finished.root.parent / "reads", root.parent / "reads")
        return Project(root)

    return copy
