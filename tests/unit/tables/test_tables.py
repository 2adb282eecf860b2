"""The tables between stages: what is written is read back, and an error names what is wrong."""

import string
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.errors import TableError
from headstart.tables.classes import read_classes, write_classes
from headstart.tables.index import IndexRow
from headstart.tables.predictions import Predictions, read_predictions, write_predictions
from headstart.tables.rows import read_rows, write_rows
from headstart.tables.split import SplitRow

names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)
digests = st.text(string.hexdigits.lower()[:16], min_size=64, max_size=64)


@given(
    st.lists(
        st.builds(
            IndexRow,
            path=names,
            digest=digests,
            format=names,
            width=st.integers(0, 10**6),
            height=st.integers(0, 10**6),
            status=names,
            reason=names,
        )
    )
)
def test_rows_survive_the_file(rows: list[IndexRow]) -> None:
    """Rows with any text, such as commas, quotes, line ends or any script, are read back exactly."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        write_rows(path, rows, IndexRow)

        assert read_rows(path, IndexRow) == rows


@given(st.lists(names, min_size=2, max_size=5, unique=True), st.data())
def test_predictions_survive_the_file(classes: list[str], data: st.DataObject) -> None:
    """Class names of any script are read back in order, logits to 6 decimals, and `predicted` has the largest logit."""
    logits = np.array(
        data.draw(st.lists(st.lists(st.floats(-99, 99), min_size=len(classes), max_size=len(classes)), min_size=1))
    )
    labels = [classes[0]] * len(logits)
    written = Predictions([f"d{row}" for row in range(len(logits))], ["p,\n"] * len(logits), labels, classes, logits)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "head.csv"
        write_predictions(path, written)
        read = read_predictions(path)

    assert list(read.classes) == classes
    assert list(read.labels) == labels
    assert np.abs(read.logits - logits).max() <= 5.1e-7


def test_classes_keep_their_order(tmp_path: Path) -> None:
    """Classes are read back in the order in which they were written, which need not be alphabetical."""
    write_classes(tmp_path / "c.json", ["b", "a", "10", "2"])

    assert read_classes(tmp_path / "c.json") == ["b", "a", "10", "2"]


@pytest.mark.parametrize("text", ["{}", "[", '{"classes": ["a"]}', '{"classes": ["a", "a"]}', '{"classes": 3}'])
def test_bad_classes_are_refused(tmp_path: Path, text: str) -> None:
    """A list of classes that is damaged, too short or has a name twice is an error."""
    path = tmp_path / "c.json"
    path.write_text(text)

    with pytest.raises(TableError, match="c.json.*dvc repro split"):
        read_classes(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("digest,path\n", "columns are"),
        ("path,digest,format,width,height,status,reason,camera,taken\na,b,c,x,1,ok,,,\n", "row 1"),
        ("path,digest,format,width,height,status,reason,camera,taken\na,b,c\n", "row 1"),
        ('path,digest,format,width,height,status,reason\n"a', "is not a UTF-8 CSV"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, text: str, words: str) -> None:
    """A table with other columns, a bad cell or a cut end is an error with the place and the remedy."""
    path = tmp_path / "t.csv"
    path.write_text(text)

    with pytest.raises(TableError) as caught:
        read_rows(path, IndexRow)

    assert words in str(caught.value)
    assert "Run: dvc repro index" in str(caught.value)


def test_missing_table_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    """The error for a missing table names the stage that makes it."""
    with pytest.raises(TableError, match="is missing. Run: dvc repro split"):
        read_rows(tmp_path / "t.csv", SplitRow)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["d,p,a,b,2.0,1.0"], "expected the class with the largest logit"),
        (["d,p,c,a,2.0,1.0"], "expected names of the classes"),
        (["d,p,a,a,nan,1.0"], "finite"),
        (["d,p,a,a,x,1.0"], "expected a number"),
        (["d,p,a,a,2.0"], "every"),
        ([], "has no rows"),
    ],
)
def test_inconsistent_predictions_are_refused(tmp_path: Path, lines: list[str], words: str) -> None:
    """Predictions that were edited by hand or cut are an error, because reported numbers must be the model's."""
    path = tmp_path / "head.csv"
    path.write_text("\n".join(["digest,path,label,predicted,logit_a,logit_b", *lines]) + "\n")

    with pytest.raises(TableError, match=words):
        read_predictions(path)
