"""The user's table of labels is read exactly; an error names the row or column that cannot be understood."""

import csv
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


def test_paths_are_relative_to_the_table(tmp_path: Path) -> None:
    """Paths are relative to the folder of the table; a path outside the data set is an error."""
    write_csv(tmp_path / "meta/labels.csv", ["path", "label"], ["../images/a.png", "cat"], ["b.png", "dog"])
    assert [row.path for row in read_labels(tmp_path, "meta/labels.csv")] == ["images/a.png", "meta/b.png"]

    for path in ("../../a.png", "/a.png"):
        write_csv(tmp_path / "meta/labels.csv", ["path", "label"], [path, "cat"])
        with pytest.raises(DataError, match=r"row 1: '.*a\.png' is outside"):
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path;label\na.png;cat\n", r"columns are \['path;label'\]; expected `path` and `label`"),
        ("path,label,label\n", "expected each once"),
        ("path,label,splits\na.png,cat,train\n", "has a column 'splits'; expected 'split'"),
        ("path,label\n", "has no rows"),
        ("", "expected `path` and `label`"),
        ("path,label\na.png\n", "row 1 has 1 cells; expected 2"),
        ("path,label\na.png,\n", "row 1: label is ''"),
        ("path,label\na.png,cat\nb/../a.png,dog\n", "row 2: 'b/../a.png' is listed twice"),
        ("path,label,split\na.png,cat,dev\n", "row 1: split is 'dev'; expected one of"),
        ("path,label\n\xff", "is not a UTF-8 CSV file"),
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
    for label in (0.5, None, True):
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
