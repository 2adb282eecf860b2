"""Label fixes: their file for each data set, and what is read back."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.errors import DataError
from headstart.tables.label_fixes import LabelFix, label_fixes_path, read_label_fixes, write_label_fixes
from tests.support.source import ROOT

HEADER = "digest,path,label,who,when,why\n"
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)


@pytest.mark.parametrize(
    ("setting", "data_path", "expected"),
    [
        ("data/label_fixes", "data/digits", "data/label_fixes/digits.csv"),
        ("data/label_fixes", "./data/my/photos/", "data/label_fixes/my/photos.csv"),
        ("data/label_fixes", "/mnt/photos", "data/label_fixes/mnt/photos.csv"),
        ("data/label_fixes", "../photos", "data/label_fixes/photos.csv"),
        ("data/label_fixes", "data", "data/label_fixes/data.csv"),
        ("data/Mine.CSV", "data/digits", "data/Mine.CSV"),
    ],
)
def test_each_data_set_has_its_own_file(setting: str, data_path: str, expected: str) -> None:
    """In a folder the fixes lie below the path of their data set; a CSV file is taken as it is."""
    assert label_fixes_path(setting, data_path) == Path(expected)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT.filter(bool), TEXT, TEXT, TEXT), max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]) -> None:
    """All texts come back, in the order of the digests, and equal fixes in another order give equal bytes."""
    path = tmp_path_factory.mktemp("fixes") / "new" / "fixes.csv"
    fixes = [LabelFix(*row) for row in rows]
    write_label_fixes(path, fixes)
    data = path.read_bytes()

    assert read_label_fixes(path) == [LabelFix(*row) for row in sorted(rows)]
    write_label_fixes(path, fixes[::-1])
    assert path.read_bytes() == data


def test_a_file_that_a_person_wrote(tmp_path: Path) -> None:
    """A byte order mark and empty lines are accepted; no file means no fixes."""
    path = tmp_path / "fixes.csv"
    rows = '0a,"a,b.png",cat,,,\n\n,c.png,drop,me,,"not, sharp"\n'
    path.write_text(f"\ufeff{HEADER}{rows}", encoding="utf-8", newline="\r\n")
    assert read_label_fixes(path) == [
        LabelFix("0a", "a,b.png", "cat"),
        LabelFix("", "c.png", "drop", "me", "", "not, sharp"),
    ]
    assert read_label_fixes(tmp_path / "other.csv") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,label,who,why\n", r"columns are .*; expected \['digest', 'path', .* Correct the first line"),
        (f"{HEADER}0a,a.png,,me,,x\n", "row 2 is .*; expected a label. Fill or remove the row"),
        (f"{HEADER}0a,a.png,cat\n", "row 2 has 3 cells; expected 6"),
        ("", "columns are"),
        (f"<<<<<<< HEAD\n{HEADER}", "row 1 is '<<<<<<< HEAD', a conflict marker of git. Keep the rows that are right"),
        (f"{HEADER}0a,a.png,cat,,,\n=======\n0a,a.png,dog,,,\n", "row 3 is '=======', a conflict marker of git"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """Other columns, a missing label and a missing cell are errors that name the file."""
    path = tmp_path / "fixes.csv"
    path.write_text(text)

    with pytest.raises(DataError, match=f"fixes.csv: {words}"):
        read_label_fixes(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_of_a_spreadsheet_keeps_its_style(
    tmp_path: Path, separator: str, line_end: str, mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Separator, line ends and byte order mark stay, so git shows the new row alone; nothing is printed each time."""
    path = tmp_path / "fixes.csv"
    lines = [HEADER.strip(), "0a,a.png,cat,,,"]
    before = mark + "".join(line.replace(",", separator) + line_end for line in lines)
    path.write_bytes(before.encode())
    write_label_fixes(path, [*read_label_fixes(path), LabelFix("0b", f"b{separator}.png", "dog")])

    new = f'0b{separator}"b{separator}.png"{separator}dog{separator * 3}{line_end}'
    assert path.read_bytes() == (before + new).encode()
    assert read_label_fixes(path)[1].path == f"b{separator}.png"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("base", [None, [], [LabelFix("1", "", "ants"), LabelFix("4", "", "ants")]])
def test_git_merges_what_two_people_added(tmp_path: Path, base: list[LabelFix] | None) -> None:
    """Also if their rows lie side by side, or both began the file."""
    path = tmp_path / "data/label_fixes/photos.csv"

    def git(*words: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "base")
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    if base is not None:
        write_label_fixes(path, base)
    git("add", "-A")
    git("commit", "-m", "base")
    for name in "23":
        git("checkout", "-b", name, "base")
        write_label_fixes(path, [*(base or []), LabelFix(name, "", "bees")])
        git("add", "-A")
        git("commit", "-m", name)
    git("merge", "2")

    assert sorted(fix.digest for fix in read_label_fixes(path)) == sorted(["2", "3", *(f.digest for f in base or [])])
