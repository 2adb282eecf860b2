"""The entries of index and split: what they put together."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from headstart.base.errors import DataError
from headstart.tables import label_fixes
from headstart.tables.index import IndexRow
from headstart.tables.label_fixes import LabelFix, write_label_fixes
from headstart.tables.rows import read_rows
from headstart.tables.split import PoolRow, SplitRow
from stages.index import __main__ as index_main
from stages.index import build
from stages.split import __main__ as split_main
from tests.support.source import ROOT

FIXES = Path("data/label_fixes/photos.csv")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with eight photos of two classes and their index, and the working directory in it."""
    for number in range(8):
        folder = tmp_path / "data" / "photos" / ("bee" if number % 2 else "ant")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9 + number)).save(folder / f"{number}.png")
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("  path: data/digits", "  path: data/photos"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    index_main.main()
    return tmp_path


@pytest.mark.usefixtures("project")
def test_fixes_are_spelled_as_the_classes() -> None:
    """A label fix with a space behind the name of its class is applied."""
    write_label_fixes(FIXES, [LabelFix("", "ant/0.png", "bee ", "me")])
    split_main.main()

    labels = {row.path: row.label for row in read_rows(Path("data/split.csv"), SplitRow)}
    assert (labels["ant/0.png"], labels["ant/2.png"], set(labels.values())) == ("bee", "ant", {"ant", "bee"})


def test_images_without_a_label_are_the_pool(project: Path) -> None:
    """Photos in `_unlabelled` are listed in data/pool.csv; one that a fix labels is in data/split.csv instead."""
    for number in range(3):
        path = project / f"data/photos/_unlabelled/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 9 + number)).save(path)
    index_main.main()
    write_label_fixes(
        FIXES, [LabelFix("", "_unlabelled/1.png", "bee", "me"), LabelFix("", "_unlabelled/2.png", "drop")]
    )
    split_main.main()

    assert [row.path for row in read_rows(Path("data/pool.csv"), PoolRow)] == ["_unlabelled/0.png"]
    found = {row.path: (row.label, row.split) for row in read_rows(Path("data/split.csv"), SplitRow)}
    assert found["_unlabelled/1.png"] == ("bee", "train")
    assert len(found) == 9


@pytest.mark.usefixtures("project")
def test_fixes_that_are_edited_meanwhile_fail_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """If somebody corrects a label while the stage runs, it says so at its end."""
    read = label_fixes.read_label_fixes

    def read_and_edit(path: Path) -> Any:
        found = read(path)
        write_label_fixes(path, [LabelFix("", "ant/0.png", "bee", "me")])
        return found

    monkeypatch.setattr(label_fixes, "read_label_fixes", read_and_edit)
    with pytest.raises(DataError, match=r"data/label_fixes/photos\.csv: edited while this stage ran"):
        split_main.main()


def test_photos_that_come_meanwhile_are_indexed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo that is added while the index is made is in it."""
    build_index, new = build.build_index, project / "data" / "photos" / "bee" / "new.png"

    def build_and_add(*arguments: Any) -> list[IndexRow]:
        rows = build_index(*arguments)
        if not new.exists():
            Image.new("RGB", (30, 30)).save(new)
        return rows

    monkeypatch.setattr(build, "build_index", build_and_add)
    index_main.main()

    assert "bee/new.png" in {row.path for row in read_rows(Path("data/index.csv"), IndexRow)}
