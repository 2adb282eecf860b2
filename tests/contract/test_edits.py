"""An edit of one subject re-runs only the stages that use it; a chart never trains a network or exports one."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from headstart.engines import cache
from headstart.linear import trials
from stages.finetune import checkpoint
from stages.index import record
from stages.robustness import embeddings
from tests.support.source import ROOT

PIPELINE: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def lists(places: tuple[str, ...] | list[str], file: str) -> bool:
    """Whether a module is one of some places, or lies in one of these folders."""
    assert (ROOT / file).is_file(), file
    return any(Path(file).is_relative_to(place) for place in places)


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("stages/report/figures.py", {"report"}),
        ("stages/evaluate/metrics.py", {"evaluate"}),
        ("stages/evaluate/params.py", {"evaluate"}),
        ("stages/compare/advice.py", {"compare"}),
        ("headstart/tables/evaluate.py", {"evaluate", "compare", "report"}),
        ("headstart/tables/projection.py", {"projection", "report"}),
        ("headstart/tables/compare.py", {"compare", "report"}),
        ("headstart/tables/documents.py", {"compare", "robustness", "report"}),
        ("headstart/tables/paired.py", {"compare", "robustness"}),
        ("headstart/tables/robustness.py", {"robustness", "report"}),
        ("headstart/predict/outputs.py", {"robustness"}),
        ("headstart/sources/folder.py", {"index", "split", "extract", "finetune", "robustness", "report"}),
        ("headstart/pixels/cache.py", {"finetune", "report"}),
        ("stages/index/label_table.py", {"index"}),
        ("stages/head/fit.py", {"head"}),
        ("stages/robustness/shifts.py", {"robustness"}),
    ],
)
def test_an_edit_of_one_subject_runs_its_stages_only(file: str, stages: set[str]) -> None:
    """The stages that run after an edit, and no exported network or checkpoint is thrown away for it."""
    found = {name for name, stage in PIPELINE.items() if lists(stage.get("do", stage)["deps"], file)}

    assert found == stages
    assert not lists(cache._CODE, file)
    assert not lists(checkpoint._CODE, file)


@pytest.mark.parametrize(
    ("file", "exports", "restarts", "tries"),
    [
        ("headstart/backbone/layers.py", True, True, False),
        ("headstart/engines/export.py", True, False, False),
        ("headstart/linear/logistic.py", False, True, True),
        ("headstart/imaging/reader.py", False, True, False),
        ("stages/finetune/trainer.py", False, True, False),
        ("stages/head/kinds.py", False, False, False),
    ],
)
def test_what_a_kept_thing_is_made_of_is_in_its_key(file: str, exports: bool, restarts: bool, tries: bool) -> None:
    """An edit of the code that makes an exported network, a checkpoint or the trials of layers makes it anew."""
    assert lists(cache._CODE, file) == exports
    assert lists(checkpoint._CODE, file) == restarts
    assert lists(trials._CODE, file) == tries


@pytest.mark.parametrize(
    ("file", "reads_again"),
    [
        ("headstart/imaging/decode.py", True),
        ("headstart/sources/folder.py", True),
        ("stages/index/examination.py", True),
        ("headstart/imaging/transform.py", False),
        ("stages/index/build.py", False),
    ],
)
def test_the_index_reads_files_again_when_their_rows_may_change(file: str, *, reads_again: bool) -> None:
    """The record of unchanged files is void after an edit of the code that makes the row of a file."""
    assert lists(record._CODE, file) == reads_again


@pytest.mark.parametrize(
    ("file", "embeds_again"),
    [
        ("stages/robustness/shifts.py", True),
        ("headstart/backbone/layers.py", True),
        ("headstart/engines/torch_engine.py", True),
        ("headstart/imaging/reader.py", True),
        ("headstart/predict/model.py", True),
        ("stages/head/fit.py", False),
        ("headstart/linear/logistic.py", False),
        ("headstart/tables/paired.py", False),
    ],
)
def test_shifted_pictures_are_embedded_again_when_their_code_changes(file: str, *, embeds_again: bool) -> None:
    """The kept embeddings are void after an edit of the code that makes them, but not after one of the head."""
    assert lists(embeddings._CODE, file) == embeds_again
