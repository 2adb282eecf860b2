"""The tutorials' photos with real weights: the numbers that the project promises."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headstart.artifacts.features import open_features
from headstart.base.csv_files import csv_line
from headstart.base.files import sha256_file
from headstart.sources.folder import Folder
from stages.index.build import build_index
from stages.index.label_table import read_labels
from stages.params import load_params
from stages.split.layout import read_layout
from stages.split.params import Params as SplitParams
from stages.split.partition import partition
from tests.conftest import index_params
from tests.support.project import Project, clone_project, stages_run
from tests.support.source import ROOT


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with the params as shipped."""
    return clone_project(tmp_path_factory.mktemp("clone") / "project")


def numbers(project: Project, name: str) -> dict[str, Any]:
    """Return the content of a file of numbers, such as `metrics/head`."""
    content: dict[str, Any] = json.loads((project.root / f"{name}.json").read_text())
    return content


def test_ants_and_bees_by_the_default(project: Project, ants_bees: Path) -> None:
    """A folder of one's own needs `-S data.path=...` and nothing else: at least 0.93 of the 153 test photos."""
    shutil.copytree(ants_bees, project.root / "data" / "my_photos")
    output = project.run("dvc", "exp", "run", "-S", "data.path=data/my_photos", "-S", "finetune.epochs=1")

    assert stages_run(output)[:3] == ["index", "split", "extract"]
    assert set(stages_run(output)[3:]) == {
        *("head", "finetune", "evaluate@head", "evaluate@finetune", "compare", "projection", "robustness"),
        "report",
    }
    assert "the test set is `val` (there is no test): 244 train, 153 test" in output
    assert "train/ants/imageNotFound.gif" in output
    assert numbers(project, "metrics/head")["num_images"] == 153
    assert numbers(project, "metrics/head")["accuracy"] >= 0.93
    assert numbers(project, "metrics/finetune")["num_images"] == 153
    assert numbers(project, "metrics/finetune")["accuracy"] >= 0.93
    found = numbers(project, "diagnostics/comparison")
    assert (found["size"], found["similarity"]) == ("small", "similar")
    assert numbers(project, "metrics/finetune_minus_head")["ship"] == "head"
    shifted = numbers(project, "diagnostics/robustness")
    assert shifted["num_images"] == 153
    for track in ("head", "finetune"):
        unshifted = shifted["conditions"][0][track]["accuracy"]
        assert abs(unshifted - numbers(project, f"metrics/{track}")["accuracy"]) < 0.02
        assert 0.5 < shifted[f"mean_{track}"] < unshifted
    assert numbers(project, "diagnostics/head_training")["layers"] == "last"


def test_ants_and_bees_by_a_table(ants_bees: Path, tmp_path: Path) -> None:
    """A table that says what the folders say gives the same rows, wherever the photos lie."""
    root = tmp_path / "photos"
    shutil.copytree(ants_bees, root, copy_function=lambda source, target: Path(target).symlink_to(source))
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jp*g"))
    lines = [["path", "label", "split"], *([path, path.split("/")[1], path.split("/")[0]] for path in reversed(files))]
    (root / "labels.csv").write_text("".join(f"{csv_line(line)}\n" for line in lines))
    params = load_params(SplitParams, ROOT / "params.yaml").split
    shipped = index_params(extensions=["jpeg", "jpg", "png"])
    index = build_index(Folder(root), Folder(root).list_files(), shipped, num_workers=2)
    layouts = [read_layout(index, table, params) for table in ([], read_labels(root, "labels.csv"))]
    parted = [partition(layout, params) for layout in layouts]

    assert parted[0].rows == parted[1].rows
    assert len(parted[0].rows) == 397
    assert parted[1].origin == "given by the table; the test set is `val` (there is no test)"


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
        assert features.spec["layers"][-2:] == ["features.12", "last"]
    assert numbers(project, "metrics/head")["accuracy"] >= 0.89
