"""dvc.yaml tells DVC the truth: all code that a stage imports, all params that it reads."""

import importlib
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from headstart.base.params import FORBIDDEN_KEYS, Section
from tests.support.source import ROOT, file_of, import_closure, package_of

PIPELINE: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict[str, Any]] = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}
FOLDERS = {folder.parent.name for folder in (ROOT / "stages").glob("*/__main__.py")}


def main_of(name: str) -> Path:
    """Return the module that a stage's command runs."""
    words = STAGES[name]["cmd"].split()
    assert words[:2] == ["python", "-m"]
    main = file_of(f"{words[2]}.__main__")
    assert main is not None, words
    return main


def sections_of(stage: str) -> dict[str, type[Section]]:
    """Return the sections of params.yaml that a stage reads."""
    fields = importlib.import_module(f"stages.{stage}.params").Params.model_fields
    return {name: field.annotation for name, field in fields.items()}


def code_dep(file: Path) -> str:
    """Return what dvc.yaml names for a module: its package, or in `tables`, one module a producer, itself."""
    package = package_of(file)
    return file.relative_to(ROOT).as_posix() if package == "headstart/tables" else package


def test_every_stage_is_a_folder() -> None:
    """The folders of stages/ are the DAG: one for each stage of dvc.yaml, run by its own name."""
    assert set(PIPELINE["stages"]) == FOLDERS
    for name in PIPELINE["stages"]:
        assert main_of(name).parent.name == name


@pytest.mark.parametrize("name", PIPELINE["stages"])
def test_code_deps_are_exactly_the_packages_imported(name: str) -> None:
    """DVC does not follow imports: an unlisted package means stale results, a superfluous one needless runs."""
    listed = [path for path in STAGES[name]["deps"] if path.startswith(("headstart/", "stages/"))]
    imported = {code_dep(file) for file in import_closure(main_of(name))}

    missing, superfluous = sorted(imported - set(listed)), sorted(set(listed) - imported)
    assert not missing, f"dvc.yaml: {name}: add to deps: {', '.join(missing)}"
    assert not superfluous, f"dvc.yaml: {name}: remove from deps: {', '.join(superfluous)}"
    assert len(listed) == len(set(listed))


def test_the_stages_of_dvc_yaml_stay_short() -> None:
    """A reader sees all stages in a few screens: fifteen lines or so for each; the plots come after them."""
    stages = (ROOT / "dvc.yaml").read_text(encoding="utf-8").split("\nplots:")[0]

    assert len(stages.splitlines()) < 200


@pytest.mark.parametrize("name", sorted(set(PIPELINE["stages"]) - {"report"}))
def test_params_are_exactly_the_sections_read(name: str) -> None:
    """A stage lists every section that its stage reads, whole, but for `runtime`, which changes no result."""
    read = set(sections_of(name))

    assert set(STAGES[name].get("params", [])) == read - {"runtime"}


def test_the_report_shows_all_params_and_so_depends_on_them() -> None:
    """A page that shows a param must be written anew when it changes."""
    sections = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    missing = set(sections) - {"runtime"} - set(STAGES["report"]["params"])
    assert not missing, f"dvc.yaml: report: add to params: {', '.join(sorted(missing))}"
    assert "runtime" not in STAGES["report"]["params"]


def test_a_section_called_like_a_stage_is_that_stages_own() -> None:
    """`head.*` re-runs the head and no other stage, but for the report that shows it."""
    for name in PIPELINE["stages"]:
        for other in PIPELINE["stages"]:
            if other not in {name, "report"}:
                assert name not in STAGES[other].get("params", [])


def test_every_section_is_read_by_some_stage() -> None:
    """params.yaml holds no setting that does nothing, and no stage reads a section that is not there."""
    sections = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    read = {
        name
        for stage in PIPELINE["stages"]
        for name in importlib.import_module(f"stages.{stage}.params").Params.model_fields
    }

    assert set(sections) == read


def test_every_param_has_a_comment() -> None:
    """params.yaml is the documentation of its keys: a comment stands above every one."""
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    bare = [
        line
        for above, line in itertools.pairwise(lines)
        if re.match(r" +\w+: ?[^ ]?", line) and not above.strip().startswith("#")
    ]
    mappings = [f"  {name}:" for name in ("sgd", "optimizer", "schedule", "augmentation")]  # their comment is inside

    assert bare == mappings


def comments_of(text: str) -> list[str]:
    """Return the comments of a YAML file, in their order."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith("#")]


@pytest.mark.parametrize(
    "changes",
    [
        ["data.path=data/mine"],
        ["index.extensions=[png,jpg]", "index.max_pixels=1000"],
        ["split.group='([a-z]+)'", "split.seed=3"],
        ["backbone.layers=[blocks.4,last]", "backbone.name=resnet18"],
        ["transform.px=96"],
        ["extract.views=2"],
        ["head.c_grid=[0.1,1.0]", "head.layers=[last]", "head.sgd.momentum=0.5"],
        ["finetune.probe_c_grid=[0.1]", "finetune.optimizer.clip=null", "finetune.schedule.kind=step"],
        ["projection.seed=1", "robustness.seed=1", "intervals.seed=1", "report.title=Mine", "runtime.batch=8"],
    ],
    ids=lambda changes: changes[0].split(".")[0],
)
def test_an_experiment_drops_no_comment_of_params(tmp_path: Path, changes: list[str]) -> None:
    """`dvc exp run -S` rewrites params.yaml, lists as blocks; done three times, every comment is still there."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    for _ in range(3):
        apply_overrides(path, changes)

    assert comments_of(path.read_text(encoding="utf-8")) == comments_of(text)


def test_no_model_has_a_forbidden_key_or_a_default() -> None:
    """DVC ignores keys called `size` or `nfiles`, and a default in code would be a number outside params.yaml."""
    for stage in PIPELINE["stages"]:
        for section in sections_of(stage).values():
            for name, field in section.model_fields.items():
                assert name not in FORBIDDEN_KEYS
                assert field.is_required(), name


@pytest.mark.parametrize("name", STAGES)
def test_stages_describe_themselves(name: str) -> None:
    """`dvc stage list` has a line for each stage that fits a terminal."""
    assert 20 < len(STAGES[name]["desc"]) < 80


def test_the_numbers_are_in_git_and_the_run_cache_is_on() -> None:
    """Metrics are compared without a remote; any other output that is not cached turns DVC's run cache off."""
    for stage in STAGES.values():
        for metric in stage.get("metrics", []):
            assert list(metric.values()) == [{"cache": False}]
        assert all(isinstance(out, str) for out in stage["outs"])


def test_the_whole_pipeline_hangs_together() -> None:
    """Every file that a stage reads is some stage's output, but for code, the image folder and the committed lists."""
    outputs = set()
    for stage in STAGES.values():
        outs = [*stage.get("outs", []), *stage.get("metrics", [])]
        outputs |= {out if isinstance(out, str) else next(iter(out)) for out in outs}
    outputs |= {"predictions/${item}.csv"}  # of the track's own stage
    outputs |= {out.replace("${item}", track) for out in outputs for track in ("head", "finetune")}
    read = {dep for stage in STAGES.values() for dep in stage["deps"] if not dep.startswith(("headstart/", "stages/"))}
    made = {dep for dep in read if any(dep == out or dep.startswith(f"{out}/") for out in outputs)}

    assert read - made == {"${data.path}", "${split.label_fixes}"}
