"""The user's table of labels is read exactly; an error names the row or column that cannot be understood."""

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from headstart.base.csv_files import csv_line
from headstart.base.errors import DataError
from headstart.tables.index import LabelRow
from stages.index.label_table import check_listed, read_labels


def write_csv(path: Path, *lines: list[str]) -> None:
    """Write a CSV file of rows; the first row is the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{csv_line(line)}\n" for line in lines).encode())


def test_the_columns_are_found_by_name(tmp_path: Path) -> None:
    """Columns may have any order, others are ignored, and splits may be in upper case or have their longer names."""
    write_csv(
        tmp_path / "labels.csv",
        ["note", "label", "group", "path", "split"],
        ["x", "cat", "p1", "b.png", "Validation"],
        ["y", "dog", "p2", "./a/./c.png", "TRAIN"],
        ["z", "dog", "p3", "a/../d.png", "test"],
    )

    assert read_labels(tmp_path, "labels.csv") == [
        LabelRow("a/c.png", "dog", "train", "p2"),
        LabelRow("b.png", "cat", "val", "p1"),
        LabelRow("d.png", "dog", "test", "p3"),
    ]


def test_an_image_may_have_no_label(tmp_path: Path) -> None:
    """An empty label makes an image unlabelled, whose split may be empty too; its group and its path may not."""
    header = ["path", "label", "split", "group"]
    write_csv(
        tmp_path / "t.csv", header, ["a.png", "cat", "train", "p1"], ["b.png", "", "", "p2"], ["c.png", "", "val", "p3"]
    )
    parquet.write_table(
        pa.table({"path": ["a.png", "b.png"], "label": ["cat", None], "split": ["train", None]}), tmp_path / "t.parquet"
    )

    rows = [
        LabelRow("a.png", "cat", "train", "p1"),
        LabelRow("b.png", "", "", "p2"),
        LabelRow("c.png", "", "val", "p3"),
    ]
    assert read_labels(tmp_path, "t.csv") == rows
    assert read_labels(tmp_path, "t.parquet")[1] == LabelRow("b.png", "", "", "")
    for line, name in (
        (["b.png", "", "", ""], "group"),
        (["b.png", "cat", "", "p2"], "split"),
        (["", "", "", "p2"], "path"),
    ):
        write_csv(tmp_path / "t.csv", header, line)
        with pytest.raises(DataError, match=f"row 2: {name} is ''; expected text"):
            read_labels(tmp_path, "t.csv")


def test_paths_are_relative_to_the_table(tmp_path: Path) -> None:
    """Paths are relative to the folder of the table; a path outside the data set is an error."""
    write_csv(tmp_path / "meta/labels.csv", ["path", "label"], ["../images/a.png", "cat"], ["b.png", "dog"])
    assert [row.path for row in read_labels(tmp_path, "meta/labels.csv")] == ["images/a.png", "meta/b.png"]

    for path in ("../../a.png", "/a.png"):
        write_csv(tmp_path / "meta/labels.csv", ["path", "label"], [path, "cat"])
        with pytest.raises(DataError, match=r"row 2: '.*a\.png' is outside"):
            read_labels(tmp_path, "meta/labels.csv")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1), min_size=1, unique=True))
def test_names_of_any_kind_are_read(names: list[str]) -> None:
    """Names of files and classes may contain commas, quotes, line ends and letters of any script."""
    import tempfile

    names = [f"x{name}" for name in names]
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "t.csv", ["path", "label"], *([name, name] for name in names))
        rows = read_labels(Path(folder), "t.csv")

    assert {row.path for row in rows} == {row.label for row in rows} == set(names)


def test_parquet_says_what_csv_says(tmp_path: Path) -> None:
    """A Parquet file gives the rows of the same table as CSV; labels may be whole numbers or dictionary-encoded."""
    labels = pa.array(["cat", "dog"]).dictionary_encode()
    table = {"path": ["a.png", "b.png"], "label": labels, "group": [7, 8], "other": [0.5, 1.5]}
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    write_csv(tmp_path / "t.csv", ["path", "label", "group"], ["a.png", "cat", "7"], ["b.png", "dog", "8"])

    assert read_labels(tmp_path, "t.parquet") == read_labels(tmp_path, "t.csv")


def test_a_mark_of_a_spreadsheet_is_no_part_of_a_column(tmp_path: Path) -> None:
    """A byte order mark, with which Excel begins a UTF-8 file, and empty lines are ignored."""
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfpath,label\r\na.png,cat\r\n\r\n")

    assert read_labels(tmp_path, "t.csv") == [LabelRow("a.png", "cat", "", "")]


def test_empty_columns_of_a_spreadsheet_are_ignored(tmp_path: Path) -> None:
    """Columns at the right that have no name and no content, and rows of empty cells, are no part of a table."""
    (tmp_path / "t.csv").write_text("path,label,,\na.png,cat,,\n,,,\nb.png,dog\nc.png,dog,,,,\n")
    assert [row.label for row in read_labels(tmp_path, "t.csv")] == ["cat", "dog", "dog"]

    (tmp_path / "t.csv").write_text("path,label,,\na.png,cat,,x\n")
    with pytest.raises(DataError, match="row 2 has 4 cells; expected 2"):
        read_labels(tmp_path, "t.csv")


@pytest.mark.parametrize(("separator", "name"), [(",", None), (";", "semicolon"), ("\t", "tab")])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_header_shows_how_cells_are_separated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], separator: str, name: str | None, mark: bytes
) -> None:
    """A table of a spreadsheet with a decimal comma is read like any other, and its separator is said aloud."""
    lines = [["path", "label", "note, or remark; free"], ['a "1".png', "Käfer", "1,5; 2"], ["b.png", "x;y,z\t", ""]]
    with (tmp_path / "t.csv").open("wb") as file:
        file.write(mark)
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        csv.writer(text, delimiter=separator).writerows(lines)
        text.flush()

    assert read_labels(tmp_path, "t.csv") == [
        LabelRow('a "1".png', "Käfer", "", ""),
        LabelRow("b.png", "x;y,z\t", "", ""),
    ]
    printed = capsys.readouterr().out
    assert printed == (f"{tmp_path}/t.csv: cells are separated by {name}s, as the header shows\n" if name else "")


def test_a_table_of_tabs_may_say_so_in_its_name(tmp_path: Path) -> None:
    """A file that ends in .tsv is read like a CSV file."""
    (tmp_path / "t.tsv").write_text("path\tlabel\na.png\tcat\n")

    assert read_labels(tmp_path, "t.tsv") == [LabelRow("a.png", "cat", "", "")]


def test_backslashes_separate_folders_where_the_file_is_found_so(tmp_path: Path) -> None:
    r"""`sub\a.png` of a table from Windows is sub/a.png, unless a file has that very name or neither is there."""
    (tmp_path / "meta" / "sub").mkdir(parents=True)
    for name in ("sub/a.png", "sub/b.png", r"sub\b.png"):
        (tmp_path / "meta" / name).touch()
    write_csv(
        tmp_path / "meta" / "t.csv",
        ["path", "label"],
        *([path, "cat"] for path in (r"sub\a.png", r".\sub\b.png", r"sub\b.png", r"sub\c.png", "x\\" * 3000)),
    )

    assert [row.path for row in read_labels(tmp_path, "meta/t.csv")] == sorted(
        ["meta/sub/a.png", "meta/sub/b.png", r"meta/sub\b.png", r"meta/sub\c.png", "meta/" + "x\\" * 3000]
    )
    write_csv(tmp_path / "meta" / "t.csv", ["path", "label"], [r"sub\a.png", "cat"], ["sub/a.png", "dog"])
    with pytest.raises(DataError, match="row 3: 'sub/a.png' is listed twice"):
        read_labels(tmp_path, "meta/t.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path:label\na.png:cat\n", r"columns are \['path:label'\]; expected `path` and `label`"),
        ("path;label\na;b.png;cat\n", "row 2 has 3 cells; expected 2.*contains a semicolon"),
        ("path,label,label\n", "expected each once"),
        ("path,label,splits\na.png,cat,train\n", "has a column 'splits'; expected 'split'"),
        ("path,label\n", "has no rows"),
        ("", "expected `path` and `label`"),
        ("path,label\na.png\n", "row 2 has 1 cells; expected 2"),
        ("path,label\n,cat\n", "row 2: path is ''.*Fill the cell, or remove the row"),
        ("path,label\na.png,cat\nb/../a.png,dog\n", "row 3: 'b/../a.png' is listed twice"),
        ("path,label\n\na.png,cat\n,\n,dog\n", "row 5: path is ''"),
        ("path,label,split\na.png,cat,\n", "row 2: split is ''.*Fill the cell, or remove the column 'split'"),
        ("path,label,split\na.png,cat,dev\n", "row 2: split is 'dev'; expected one of"),
        ("path,label\n\xff", "is not a UTF-8 CSV file: line 2, column 1 has the byte 0xFF. Save it as CSV in UTF-8"),
        ("path,label\r\na.png,K\xe4fer\r\n", "line 2, column 8 has the byte 0xE4"),
        ("\xef\xbb\xbfpath,K\xe4fer\n", "line 1, column 7 has the byte 0xE4"),
        ("path,label\n" + "\xc3\xa4.png,cat\n" * 5000 + "\xc3\xa4,\xdf", "line 5002, column 3 has the byte 0xDF"),
        ('path,label\n"a"b,cat\n', "is not a UTF-8 CSV file .'.' expected after"),
    ],
)
def test_a_mistake_in_a_table_is_named(tmp_path: Path, text: str, words: str) -> None:
    """The error names the row or column, what was found and what was expected."""
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))

    with pytest.raises(DataError, match=words):
        read_labels(tmp_path, "t.csv")


def test_a_missing_or_damaged_table_is_an_error(tmp_path: Path) -> None:
    """A missing table, a Parquet file that is none, repeated columns and labels that are no names are errors."""
    (tmp_path / "t.parquet").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"t\.parquet: is not a Parquet file"):
        read_labels(tmp_path, "t.parquet")
    twice = pa.Table.from_arrays([pa.array(["a.png"])] * 3, names=["path", "label", "label"])
    parquet.write_table(twice, tmp_path / "w.parquet")
    with pytest.raises(DataError, match=r"w\.parquet: columns are .*; expected each once"):
        read_labels(tmp_path, "w.parquet")
    odd = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    parquet.write_table(pa.table({"path": ["a.png"], "label": odd}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: is not a Parquet file .*utf-8"):
        read_labels(tmp_path, "x.parquet")
    for name in ("u.parquet", "u.csv"):
        with pytest.raises(DataError, match=f"{name}: is missing. Correct index.table, which is a path relative"):
            read_labels(tmp_path, name)
    for label in (0.5, True):
        parquet.write_table(pa.table({"path": ["a.png"], "label": [label]}), tmp_path / "v.parquet")
        with pytest.raises(DataError, match=f"row 1: label is {label}; expected text or a whole number"):
            read_labels(tmp_path, "v.parquet")


def test_an_unknown_suffix_is_an_error(tmp_path: Path) -> None:
    """A suffix without a reader is an error that lists the suffixes that have one."""
    (tmp_path / "labels.xlsx").write_bytes(b"hello")

    with pytest.raises(DataError, match=r"xlsx: the suffix is '\.xlsx'; expected one of .*'\.csv', .*'\.parquet'"):
        read_labels(tmp_path, "labels.xlsx")


def test_images_that_do_not_exist_are_named(tmp_path: Path) -> None:
    """The error counts the images of the table that do not exist, and suggests a similar path for the first."""
    rows = [LabelRow("images/cat_01.png", "cat", "", ""), LabelRow("images/cat_02.png", "cat", "", "")]
    check_listed(rows, {"images/cat_01.png", "images/cat_02.png", "more.png"}, tmp_path / "t.csv")

    with pytest.raises(DataError, match=r"1 of 2 images do not exist, the first 'images/cat_02.png' \(did you mean"):
        check_listed(rows, {"images/cat_01.png", "images/cat_2.png"}, tmp_path / "t.csv")


def test_the_tables_dialect_is_that_of_pythons_csv(tmp_path: Path) -> None:
    """A CSV file with quoted cells, as spreadsheets write it, gives the rows that were written."""
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["path", "label"], ['a "b".png', "c,d"]])

    assert read_labels(tmp_path, "t.csv") == [LabelRow('a "b".png', "c,d", "", "")]
