"""The pipeline as DVC runs it: complete, repeatable, and no stage runs that need not."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from headstart.artifacts.bundle import read_bundle
from headstart.artifacts.features import open_features
from headstart.backbone.build import build_embedding_network
from headstart.backbone.spec import transform_of
from headstart.base.csv_files import csv_line
from headstart.imaging.decode import decode
from headstart.predict.model import load
from headstart.tables.predictions import read_predictions
from headstart.tables.robustness import read_robustness
from headstart.tables.rows import read_rows
from headstart.tables.split import SplitRow
from stages.extract.params import Params as ExtractParams
from stages.params import load_params
from tests.conftest import backbone_params
from tests.support.project import Project, files_read, stages_run

FIXES = "data/label_fixes"
TRACKS = {"head", "finetune", "evaluate@head", "evaluate@finetune", "compare", "robustness", "report"}
ALL = {"index", "split", "extract", "projection", *TRACKS}


def changed_files(project: Project) -> list[str]:
    """Return what git sees as changed."""
    return project.run("git", "status", "--porcelain").splitlines()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, copy_of_finished: Callable[[Path], Project]) -> Project:
    """A copy of the finished project."""
    return copy_of_finished(tmp_path_factory.mktemp("clone") / "project")


@pytest.fixture(autouse=True)
def _undo(project: Project) -> object:
    """Leave the clone as it was committed."""
    yield
    project.run("git", "reset", "--quiet", "--hard")
    project.run("dvc", "checkout", "--quiet", *ALL)


def test_every_file_that_a_stage_reads_is_declared(project: Project) -> None:
    """What a stage opens for reading is one of its deps in dvc.yaml, one of its outs, code, params or a cache."""
    pipeline: dict[str, Any] = YAML(typ="safe").load((project.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    found = files_read(project)

    assert set(found) == ALL
    for name, paths in found.items():
        stage, _, item = name.partition("@")
        content = pipeline[stage].get("do", pipeline[stage])
        metrics = [next(iter(metric)) for metric in content.get("metrics", [])]
        declared = [place.replace("${item}", item) for place in (*content["deps"], *content["outs"], *metrics)]
        values = {"${data.path}": "data/photos", "${split.label_fixes}": FIXES}
        declared = [values.get(place, place) for place in declared]
        # Photos are declared by data/index.csv: it has the digest of each, which every read verifies. dvc.lock says how
        # many files there were and where DVC has the last features: it is no input of a result.
        known = (*declared, "data/photos", "params.yaml", "dvc.lock", ".cache", ".dvc", ".git", "stages", "headstart")
        undeclared = {path for path in paths if not any(Path(path).is_relative_to(place) for place in known)}
        assert {path for path in undeclared if not path.endswith(".tmp")} == set(), name


def test_a_second_run_does_nothing(project: Project) -> None:
    """With nothing changed nothing runs, and git sees no difference."""
    assert project.repro() == []
    assert changed_files(project) == []


def test_a_forced_run_leaves_the_lock_as_it_was(project: Project) -> None:
    """Every stage that runs again gives the same bytes: dvc.lock, metrics and plots do not change."""
    output = project.run("dvc", "repro", "--force")

    assert set(stages_run(output)) == ALL
    assert "0 embedded, 12 reused" in output
    assert changed_files(project) == []


def test_without_the_store_the_results_are_the_same(project: Project) -> None:
    """Deleting the store changes no result: rows come from DVC's cache or, if gone there too, from the photos."""
    store = project.root / ".cache" / "embeddings"
    for path in [path for path in store.iterdir() if path.is_dir() and path.name != "engines"]:
        shutil.rmtree(path)
    output = project.run("dvc", "repro", "--force", "--single-item", "extract")
    assert "the store is empty and takes rows from the last result in DVC's cache" in output
    assert "0 embedded, 12 reused" in output
    assert changed_files(project) == []

    for path in [path for path in store.iterdir() if path.is_dir() and path.name != "engines"]:
        shutil.rmtree(path)
    shutil.rmtree(project.root / ".dvc" / "cache" / "files")
    output = project.run("dvc", "repro", "--force", "--single-item", "extract")
    assert "12 embedded, 0 reused" in output
    assert changed_files(project) == []
    project.run("dvc", "repro", "--force")  # fills DVC's cache again


@pytest.mark.parametrize(
    ("section", "values", "targets", "expected"),
    [
        ("head", {"c": 0.5}, [], {"head", "evaluate@head", "compare", "robustness", "report"}),
        ("finetune", {"seed": 7}, [], {"finetune", "evaluate@finetune", "compare", "robustness", "report"}),
        ("split", {"seed": 7}, [], {"split", *TRACKS}),
        ("transform", {"px": 96}, ["evaluate@head"], {"extract", "head", "evaluate@head"}),
        ("runtime", {"batch": 8, "workers": 1}, [], set()),
        ("extract", {"views": 2}, ["evaluate@head"], {"extract", "head", "evaluate@head"}),
        ("report", {"title": "Another"}, [], {"report"}),
        ("projection", {"seed": 7}, [], {"projection", "report"}),
        ("robustness", {"seed": 7}, [], {"robustness", "report"}),
        ("intervals", {"seed": 7}, [], {"evaluate@head", "evaluate@finetune", "report"}),
    ],
)
def test_an_edit_runs_only_what_follows_from_it(
    project: Project, section: str, values: dict[str, Any], targets: list[str], expected: set[str]
) -> None:
    """A head param re-runs no fine-tuning, a new split no backbone pass, the machine's settings nothing."""
    project.edit_params(**{section: values})

    assert set(project.repro(*targets)) == expected


@pytest.mark.parametrize("track", ["head", "finetune"])
def test_predicting_reported_photos_gives_the_reported_logits(project: Project, track: str) -> None:
    """The predict path is the training's: files through the bundle give the logits of predictions/<track>.csv."""
    reported = read_predictions(project.root / f"predictions/{track}.csv")
    backbone = load_params(ExtractParams, project.root / "params.yaml").backbone
    for batch in (None, 2, 5):
        model = load(project.root / "models" / track, batch=batch, weights=backbone.weights)
        logits = model.logits([project.root / "data" / "photos" / path for path in reported.paths])
        assert list(model.classes) == reported.classes
        assert np.abs(logits - reported.logits).max() < 1e-4


def test_a_registered_model_can_be_fetched_from_elsewhere(project: Project, tmp_path: Path) -> None:
    """A tag makes a version of an artifact, and `dvc artifacts get` brings the bundle that it names."""
    project.run("git", "tag", "--annotate", "finetune@v1.0.0", "--message", "first")
    project.run("dvc", "artifacts", "get", str(project.root), "finetune", "--out", str(tmp_path / "got"))

    for path in (project.root / "models" / "finetune").iterdir():
        assert (tmp_path / "got" / path.name).read_bytes() == path.read_bytes()


def test_a_photo_more_runs_everything_and_is_counted(project: Project) -> None:
    """A new file is seen; a broken one is accounted for and stops nothing."""
    photos = project.root / "data" / "photos"
    (photos / "red" / "broken.png").write_bytes(b"broken")
    try:
        output = project.run("dvc", "repro", "evaluate@head")
        data = json.loads((project.root / "diagnostics" / "data.json").read_text())
    finally:
        (photos / "red" / "broken.png").unlink()

    assert "index: 13 files = 12 ok + 1 quarantined" in output
    assert (data["num_files"], data["num_quarantined"], data["num_train"], data["num_test"]) == (13, 1, 9, 3)


def test_a_label_fix_runs_the_head_and_no_backbone(project: Project) -> None:
    """A correction in data/label_fixes/ is a dependency of `split` alone; it is applied and counted."""
    fixes = project.root / "data/label_fixes/photos.csv"
    fixes.write_text("digest,path,label,who,when,why\n,blue/0.jpg,red,me,,it is red\n,green/1.png,drop,me,,not sharp\n")
    assert project.repro("evaluate@head") == ["split", "head", "evaluate@head"]
    data = json.loads((project.root / "diagnostics" / "data.json").read_text())
    assert (data["num_relabelled"], data["num_dropped"], data["num_train"] + data["num_test"]) == (1, 1, 11)

    fixes.write_text("digest,path,label,who,when,why\n,blue/9.jpg,red,me,,it is red\n")
    output = project.run("dvc", "repro", check=False)
    words = "photos.csv: row 2: 'blue/9.jpg' is not an image of this data set (did you mean"
    fixes.unlink()
    assert f"split: data/label_fixes/{words}" in output
    assert stages_run(output) == ["split"]


def test_a_table_in_place_of_folders(project: Project) -> None:
    """Labels and groups come from a CSV file beside the photos; an edit of it embeds nothing again."""
    photos = project.root / "data" / "photos"
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*"))
    project.edit_params(index={"table": "labels.csv"}, head={"folds": 2})
    try:
        for warm, added in (("warm", ["extract"]), ("hot", [])):  # the table itself is a new file of the index
            rows = {name: (warm if place % 4 == 0 else "cold", f"g{place // 2}") for place, name in enumerate(names)}
            lines = [["path", "label", "group"], *([name, *row] for name, row in rows.items())]
            (photos / "labels.csv").write_text("".join(f"{csv_line(line)}\n" for line in lines))
            assert sorted(project.repro("evaluate@head")) == sorted(["index", "split", "head", "evaluate@head", *added])
            split = read_rows(project.root / "data/split.csv", SplitRow)
            assert {row.path: (row.label, row.group) for row in split} == rows
            assert len({(row.group, row.split) for row in split}) == 6
    finally:
        (photos / "labels.csv").unlink()


def test_a_mistake_in_params_stops_before_any_work(project: Project) -> None:
    """Wrong values, also of sections that the first stage does not read, are told at once; nothing else runs."""
    project.edit_params(index={"max_pixels": "many"}, head={"folds": 1, "size": 3})
    output = project.run("dvc", "repro", check=False)

    assert "index: params.yaml: 3 bad key(s)" in output
    assert "head.folds: expected greater than or equal to 2; found 1" in output
    assert "Traceback" not in output
    assert stages_run(output) == ["index"]


def test_the_bundle_gives_the_predictions_again(project: Project) -> None:
    """Test photos, read from disk and embedded again by the bundle's own spec, give the logits of the table."""
    bundle = read_bundle(project.root / "models" / "head")
    predictions = read_predictions(project.root / "predictions" / "head.csv")
    params = backbone_params(bundle.spec["backbone"], Path(_weights(project)), layers=list(bundle.layers))
    transform = transform_of(bundle.spec)
    _, network = build_embedding_network(params, transform.crop_px, 64)
    for path, logits in zip(predictions.paths, predictions.logits, strict=True):
        picture = decode((project.root / "data" / "photos" / path).read_bytes(), 10**7).image
        with torch.inference_mode():
            embedding = torch.cat(network(torch.from_numpy(transform.pixels(picture).copy())[None]), dim=1)

        assert np.abs(bundle.logits(embedding.numpy()[:, None]) - logits).max() < 1e-3
    assert len(predictions.paths) == 3
    with open_features(project.root / "features" / "features.h5") as features:
        assert features.spec == bundle.spec


def test_the_page_shows_every_reported_photo(project: Project) -> None:
    """All photos are there, so all have a picture; the verdict is that of the metrics."""
    page = (project.root / "reports" / "index.html").read_text(encoding="utf-8")
    comparison = json.loads((project.root / "metrics" / "finetune_minus_head.json").read_text())

    assert page.count('<li class="card ') == 3
    assert "photo missing" not in page
    assert f'Use <em class="{comparison["ship"]}">' in page


def test_unshifted_pictures_have_the_reported_accuracy(project: Project) -> None:
    """The check on shifted pictures starts from what the stages predicted, and shifts every test photo."""
    shifted = read_robustness(project.root / "diagnostics" / "robustness.json")

    assert shifted.num_images == 3
    for track in ("head", "finetune"):
        reported = read_predictions(project.root / f"predictions/{track}.csv")
        assert getattr(shifted.conditions[0], track).accuracy == pytest.approx(reported.accuracy, abs=1e-6)


def _weights(project: Project) -> str:
    params = (project.root / "params.yaml").read_text(encoding="utf-8")
    return next(line.split(": ")[1] for line in params.splitlines() if line.strip().startswith("weights:"))


def test_the_commands_of_every_day_work(project: Project) -> None:
    """Metrics, params and plots can be shown and compared, the DAG drawn, an experiment run and listed."""
    table = project.run("dvc", "metrics", "show").splitlines()
    assert table[0].split()[:4] == ["Path", "accuracy", "accuracy_high", "accuracy_low"]
    assert sorted(line.split()[0] for line in table[1:]) == [
        *("metrics/finetune.json", "metrics/finetune_minus_head.json", "metrics/head.json")
    ]
    assert max(map(len, table)) <= 140
    assert "evaluate@head" in project.run("dvc", "dag")
    assert "Read every file once" in project.run("dvc", "stage", "list")
    output = project.run("dvc", "exp", "run", "--set-param", "head.c=0.01", "--name", "weak", "evaluate@head")
    assert stages_run(output) == ["head", "evaluate@head"]
    assert "head.c" in project.run("dvc", "params", "diff")
    assert "weak" in project.run("dvc", "exp", "show", "--md")
    project.run("dvc", "plots", "show")
    assert (project.root / "dvc_plots" / "index.html").is_file()
    status = project.run("git", "status", "--porcelain")
    assert "dvc_plots" not in status
    assert "??" not in status


def test_going_back_computes_nothing(project: Project) -> None:
    """What was computed once with some params comes from DVC's run cache when they return, for every stage."""
    files = list((project.root / "metrics").iterdir())
    before = {path: path.read_bytes() for path in files}
    project.edit_params(head={"c": 0.02}, finetune={"seed": 5})
    assert {"head", "finetune", "evaluate@head", "evaluate@finetune"} <= set(project.repro())
    project.run("git", "checkout", "params.yaml")

    assert project.repro() == []
    assert {path: path.read_bytes() for path in before} == before


def test_an_experiment_in_a_workspace_of_its_own(project: Project) -> None:
    """`dvc exp run --temp` runs a copy, which has no photos (git ignores them), and leaves the checkout alone."""
    output = project.run(
        *("dvc", "exp", "run", "--temp", "--allow-missing", "-S", "head.c=0.03", "--name", "temporary"),
        "evaluate@head",
    )

    assert stages_run(output) == ["head", "evaluate@head"]
    assert changed_files(project) == []


def test_experiments_of_their_own_share_the_store(project: Project) -> None:
    """An experiment in a copy of the checkout fills the store of the checkout itself, for all that follow."""
    project.run("dvc", "exp", "run", "--temp", "--copy-paths", "data/photos", "-S", "transform.px=128", "extract")
    project.edit_params(transform={"px": 128})
    output = project.run("dvc", "repro", "--force", "--single-item", "extract")

    assert "0 embedded, 12 reused" in output


def test_the_built_in_digits_are_indexed(project: Project) -> None:
    """The digits that `make` writes are a data set like any other."""
    project.run("python", "-m", "stages.datasets.digits")
    project.edit_params(data={"path": "data/digits"})
    output = project.run("dvc", "repro", "split")

    assert stages_run(output) == ["index", "split"]
    assert "1797 files = 1797 ok" in output


def test_a_killed_fine_tuning_goes_on_with_the_next_repro(project: Project) -> None:
    """Killed without warning in the middle, `dvc repro` continues after the last epoch and ends with the same bytes."""
    project.edit_params(finetune={"epochs": 3, "seed": 3})
    project.repro("finetune")
    lock = (project.root / "dvc.lock").read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.finetune"], cwd=project.root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 2 of 3" in line:
            process.kill()
            break
    process.communicate()
    output = project.run("dvc", "repro", "--force", "--single-item", "finetune")

    assert "continues after epoch 2" in output
    assert "epoch 3 of 3" in output
    assert "epoch 1 of 3" not in output
    assert (project.root / "dvc.lock").read_bytes() == lock
    assert not list((project.root / ".cache" / "finetune").iterdir())


def test_several_processes_fine_tune_together(project: Project) -> None:
    """Torchrun trains into the checkpoint, and the stage writes what one process would have found."""
    alone = read_predictions(project.root / "predictions" / "finetune.csv").logits
    project.edit_params(runtime={"processes": 2})
    output = project.run("dvc", "repro", "--force", "--single-item", "finetune")
    together = read_predictions(project.root / "predictions" / "finetune.csv").logits

    assert output.count("epoch 1 of 1") == 1
    assert "continues after epoch 1" in output
    assert np.abs(alone - together).max() < 1e-3


def test_the_bundle_of_fine_tuning_gives_its_predictions_again(project: Project) -> None:
    """The network of the bundle, fed the test photos, gives the logits of the table."""
    bundle = read_bundle(project.root / "models" / "finetune")
    predictions = read_predictions(project.root / "predictions" / "finetune.csv")
    params, transform = backbone_params(bundle.spec["backbone"], Path(_weights(project))), transform_of(bundle.spec)
    _, network = build_embedding_network(params, transform.crop_px, 64)
    network.network.load_state_dict({name: torch.from_numpy(values) for name, values in bundle.backbone.items()})
    for path, logits in zip(predictions.paths, predictions.logits, strict=True):
        picture = decode((project.root / "data" / "photos" / path).read_bytes(), 10**7).image
        with torch.inference_mode():
            embedding = torch.cat(network(torch.from_numpy(transform.pixels(picture).copy())[None]), dim=1)

        assert np.abs(bundle.logits(embedding.numpy()[:, None]) - logits).max() < 1e-4
    assert len(predictions.paths) == 3


def test_the_stages_read_no_photo_after_extraction(project: Project) -> None:
    """The head is trained again with the photos' folder gone: it needs the cache alone."""
    photos: Path = project.root / "data" / "photos"
    photos.rename(photos.with_name("away"))
    try:
        project.edit_params(head={"c": 0.2})
        output = project.run("dvc", "repro", "--single-item", "head", "evaluate@head")
    finally:
        photos.with_name("away").rename(photos)

    assert stages_run(output) == ["head", "evaluate@head"]
