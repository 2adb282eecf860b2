"""The tutorials' photos with real weights: the numbers that the project promises."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.core.features import open_features
from stages.core.files import sha256_file
from tests.pipeline.project import Project, clone_project, stages_run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with the params as shipped."""
    return clone_project(tmp_path_factory.mktemp("clone") / "project")


def numbers(project: Project, name: str) -> dict[str, Any]:
    """Return the content of a metrics file."""
    content: dict[str, dict[str, Any]] = json.loads((project.root / "metrics" / f"{name}.json").read_text())
    return content[name]


def test_ants_and_bees_by_the_default(project: Project, ants_bees: Path) -> None:
    """A folder of one's own needs `-S data.path=...` and nothing else: at least 0.93 of the 153 reported photos."""
    shutil.copytree(ants_bees, project.root / "data" / "my_photos")
    output = project.run("dvc", "exp", "run", "-S", "data.path=data/my_photos", "-S", "finetune.epochs=2")

    assert stages_run(output)[:3] == ["index", "split", "extract"]
    assert set(stages_run(output)[3:]) == {
        *("head", "finetune", "evaluate@head", "evaluate@finetune", "compare", "projection", "report")
    }
    assert "reported on `val` (there is no test folder): 244 train, 153 test" in output
    assert "train/ants/imageNotFound.gif" in output
    assert numbers(project, "head")["num_images"] == 153
    assert numbers(project, "head")["accuracy"] >= 0.93
    assert numbers(project, "finetune")["num_images"] == 153
    assert numbers(project, "finetune")["accuracy"] >= 0.93
    found = numbers(project, "comparison")
    assert (found["size"], found["similarity"], found["ship"]) == ("small", "similar", "head")
    assert numbers(project, "head_training")["tap"] == "last"


def test_ants_and_bees_by_a_local_torchvision_file(project: Project, ants_bees: Path, squeezenet: Path) -> None:
    """Torchvision's SqueezeNet 1.1 from a local file: 512 numbers per image and at least 0.89."""
    shutil.copytree(ants_bees, project.root / "data" / "my_photos", dirs_exist_ok=True)
    project.run(
        *("dvc", "exp", "run", "-S", "data.path=data/my_photos", "-S", "backbone.name=squeezenet1_1"),
        *("-S", f"backbone.weights={squeezenet}", "-S", f"backbone.weights_sha256={sha256_file(squeezenet)}"),
        "evaluate@head",
    )

    with open_features(project.root / "features" / "features.h5") as features:
        assert features.read("last", [features.digests[0].decode()]).shape == (1, 1, 512)
        assert features.spec["taps"][-2:] == ["features.12", "last"]
    assert numbers(project, "head")["accuracy"] >= 0.89
