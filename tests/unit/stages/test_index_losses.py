"""A class that gets smaller is said aloud, and pictures of one colour are counted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.sources.folder import Folder
from headstart.tables.index import IndexRow, LabelRow
from stages.index.build import build_index, check_bad
from stages.index.losses import describe_losses, describe_one_colour
from tests.conftest import index_params


def rows_of(folder: str, extension: str, num: int, status: str = "ok", reason: str = "") -> list[IndexRow]:
    """Return rows of files of one kind in a folder."""
    names = [f"{folder}/{status}{number}.{extension}" for number in range(num)]
    return [IndexRow(name, "", "", 0, 0, status, reason) for name in names]


def test_a_class_that_lost_a_tenth_is_named_with_counts_and_extensions() -> None:
    """Half of a class in a format that is not read is a warning; a tenth is none, nor are hidden files and copies."""
    rows = [
        *rows_of("train/cats", "jpg", 12),
        *rows_of("train/cats", "HEIC", 11, "skipped", "extension .HEIC is not in index.extensions"),
        *rows_of("train/cats", "png", 1, "quarantined", "damaged"),
        *rows_of("train/dogs", "jpg", 9),
        *rows_of("train/dogs", "txt", 1, "skipped", "extension .txt is not in index.extensions"),
        *rows_of("train/owls", "jpg", 4, "duplicate", "same bytes as x"),
        *rows_of("train/owls", "jpg", 4, "skipped", "hidden"),
        *rows_of("train/bats", "raw/notes", 1, "skipped"),
        IndexRow("README", "", "", 0, 0, "skipped", "extension (none) is not in index.extensions"),
    ]

    assert list(describe_losses(rows, [])) == [
        "index: WARNING: folder 'train/cats': 12 of 24 files are not used (11 skipped: .heic, 1 quarantined: .png)",
        "index: WARNING: folder 'train/bats/skipped0.raw': 1 of 1 files are not used (1 skipped: no extension)",
    ]


def test_with_a_table_the_class_is_the_label() -> None:
    """The files of a class are those that the table lists, wherever they lie; others do not count."""
    rows = [
        *rows_of("x", "jpg", 3),
        *rows_of("y", "heic", 2, "skipped", "extension"),
        *rows_of("z", "txt", 9, "skipped"),
    ]
    labels = [LabelRow(row.path, "cat" if row.path.startswith(("x", "y")) else "", "", "") for row in rows[:5]]

    assert list(describe_losses(rows, labels)) == [
        "index: WARNING: class 'cat': 2 of 5 files are not used (2 skipped: .heic)"
    ]


def test_many_classes_are_counted_not_listed() -> None:
    """Of many classes the ten with the largest losses are named, and the others counted."""
    rows = [row for number in range(13) for row in rows_of(f"c{number:02}", "heic", 20 - number, "skipped")]
    lines = list(describe_losses(rows, []))

    assert len(lines) == 11
    assert lines[0].startswith("index: WARNING: folder 'c00': 20 of 20")
    assert lines[-1] == "index: WARNING: and 3 more; data/index.csv has a reason for each file"


def test_pictures_of_one_colour_are_counted_and_used(tmp_path: Path) -> None:
    """A picture of one colour has that as its reason, whatever was repaired; a single other pixel makes it ordinary."""
    flat = np.full((9, 11, 3), (10, 20, 30), np.uint8)
    Image.fromarray(flat).save(tmp_path / "flat.png")
    Image.fromarray(flat).quantize(4).save(tmp_path / "palette.png")
    flat[3, 2] = (10, 20, 31)
    Image.fromarray(flat).save(tmp_path / "nearly.png")
    rows = build_index(Folder(tmp_path), Folder(tmp_path).list_files(), index_params(), num_workers=1)

    assert [(row.path, row.status, row.reason) for row in rows] == [
        ("flat.png", "ok", "one colour"),
        ("nearly.png", "ok", ""),
        ("palette.png", "repaired", "palette, one colour"),
    ]
    assert list(describe_one_colour(rows)) == [
        "index: 2 of the pictures that are used have one colour only, such as 'flat.png'"
    ]
    assert list(describe_one_colour(rows[1:2])) == []
    check_bad(rows, index_params(on_bad="fail"))


def test_index_says_it_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage prints losses and pictures of one colour, even if it then refuses the folder."""
    from stages.index.__main__ import main
    from tests.support.source import ROOT

    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("path: data/digits", "path: photos").replace("  - heic\n", ""))
    for number in range(4):
        path = Path("photos/cats") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9 + number, 9)).save(path)
        path.with_suffix(".heic").write_bytes(b"x")
    main()
    printed = capsys.readouterr().out

    assert "index: 4 of the pictures that are used have one colour only, such as 'cats/0.png'" in printed
    assert "index: WARNING: folder 'cats': 4 of 8 files are not used (4 skipped: .heic)" in printed
