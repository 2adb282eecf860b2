"""Fixtures of the tests of several stages."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from headstart.artifacts.features import open_features
from headstart.backbone.params import BackboneParams
from headstart.tables.index import IndexRow
from headstart.tables.rows import write_rows
from headstart.tables.split import SplitRow
from stages.extract.extraction import extract
from stages.finetune.history import Epoch
from stages.finetune.run import FineTuned, fine_tune
from stages.finetune.sample_batch import SampleImage
from tests.conftest import extract_params, index_of, write_photos
from tests.support.finetuning import CLASSES, Tune, finetune_params, rows_of


@pytest.fixture
def finetune_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_backbone: BackboneParams) -> Path:
    """Give a folder with 24 photos and their features. The test runs in it, and checkpoints go below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    write_photos(tmp_path / "photos", per_class=8)
    index = index_of(tmp_path / "photos")
    write_rows(tmp_path / "index.csv", index, IndexRow)
    extract(index, extract_params(tmp_path / "photos", tiny_backbone), tmp_path / "features.h5", tmp_path / "store")
    return tmp_path


@pytest.fixture
def tune(finetune_project: Path, tiny_backbone: BackboneParams) -> Tune:
    """Give a function that fine-tunes the tiny network on the photos, with changes of the params."""

    def run(
        watch: Callable[[Sequence[Epoch]], None] = lambda _: None,
        change_row: Callable[[SplitRow], SplitRow] = lambda row: row,
        backbone: BackboneParams = tiny_backbone,
        runtime: Mapping[str, Any] | None = None,
        show: Callable[[Sequence[SampleImage]], None] = lambda _: None,
        **changes: Any,
    ) -> FineTuned:
        index, split = rows_of(finetune_project)
        with open_features(finetune_project / "features.h5") as features:
            tuned = fine_tune(
                features,
                index,
                [change_row(row) for row in split],
                classes=CLASSES,
                split_sha256="s",
                params=finetune_params(finetune_project / "photos", backbone, runtime, **changes),
                watch=watch,
                show=show,
            )
        assert tuned is not None
        return tuned

    return run
