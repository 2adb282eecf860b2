"""The pool of images without a label, and label fixes: they move no other image into another split."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headstart.base.errors import DataError
from headstart.tables.index import LabelRow
from headstart.tables.label_fixes import LabelFix
from stages.split import results
from tests.unit.stages.test_split import classes, divide, divide_unchecked, fix, grouped, index, sides, split_params

POOL = [f"_unlabelled/p{number}.png" for number in range(6)]
DECLARED = LabelFix("", "", "new", why="new class")
COUNTS = {"a": 24, "b": 24, "c": 12}
# Label, or `drop`, of some images: of each class, and of the pool.
some_fixes = st.dictionaries(
    st.sampled_from([f"{label}/{label}{number}.png" for label in COUNTS for number in range(10)] + POOL),
    st.sampled_from(["a", "b", "c", "new", "drop"]),
    max_size=12,
)


def fixes_of(labels: dict[str, str]) -> list[LabelFix]:
    """Return label fixes by path, and the declaration of the class `new`."""
    return [DECLARED, *(fix(path, label) for path, label in labels.items())]


@given(some_fixes, st.sampled_from(["stratified", "hash"]), st.sampled_from([0.0, 0.2]), st.booleans())
def test_a_fix_moves_no_other_image(labels: dict[str, str], method: str, val: float, in_groups: bool) -> None:
    """Whatever is corrected, dropped or labelled, every image stays in its split, and the pool only trains."""
    rows = classes(COUNTS) + index(*POOL)
    changes: dict[str, Any] = {"method": method, "val_fraction": val, "group": r"/[a-z](\d)" if in_groups else None}
    before = divide(rows, **changes)
    after = divide_unchecked(rows, fixes=fixes_of(labels), **changes)
    given_label = {row.digest: row for row in before.rows}

    for row in after.rows:
        old = given_label.get(row.digest)
        assert row.label == labels.get(row.path, old.label if old else "")
        assert (row.split, row.group) == (old.split, old.group) if old else row.split != "test"
        assert in_groups or old or row.split == "train"
    dropped = {path for path, label in labels.items() if label == "drop"}
    assert {row.path for row in before.rows} - {row.path for row in after.rows} == dropped - set(POOL)
    left = {row.path for row in after.fixed.pool}
    assert left == {row.path for row in before.fixed.pool} - set(labels)
    assert {len(splits) for splits in sides(after.rows).values()} == {1}


@given(some_fixes)
def test_a_fix_moves_no_image_of_given_splits(labels: dict[str, str]) -> None:
    """Where the folders give the splits, labels of the pool train and corrected images stay where they are."""
    rows = classes(COUNTS, "train/") + index("val/a/x.png", "val/b/y.png", "val/c/z.png") + index(*POOL)
    named = {path if path in POOL else f"train/{path[0]}/{path[0]}tr{path[3:]}": of for path, of in labels.items()}
    before, after = divide(rows), divide_unchecked(rows, fixes=fixes_of(named))

    for digest, split in after.split_of.items():
        assert split == before.split_of.get(digest, "train")


def test_the_label_that_an_image_has_changes_nothing() -> None:
    """A fix with the label of the folder leaves every row as it is, and is not counted as a correction."""
    rows = classes({"a": 8, "b": 8})
    found = divide(rows, fixes=[fix(row.path, row.path[0]) for row in rows])

    assert found.rows == divide(rows).rows
    assert (len(found.fixed.relabelled), found.fixed.num_dropped) == (0, 0)


def test_the_pool_is_a_folder_at_the_top_or_in_a_split() -> None:
    """Images in a folder of that name have no label; a folder of that name inside a class belongs to the class."""
    rows = classes({"a": 4, "b": 4}) + index("_unlabelled/more/x.png", "a/_unlabelled/y.png")
    found = divide(rows)
    assert [row.path for row in found.fixed.pool] == ["_unlabelled/more/x.png"]
    assert {row.path: row.label for row in found.rows}["a/_unlabelled/y.png"] == "a"
    assert {row.label for row in divide_unchecked(rows, unlabelled="later").rows} == {"_unlabelled", "a", "b"}

    given = classes({"a": 3, "b": 3}, "train/") + classes({"a": 2, "b": 2}, "Val/") + classes({"a": 2, "b": 2}, "test/")
    pool = index("train/_unlabelled/x.png", "Val/_unlabelled/v.png", "_unlabelled/y.png")
    found = divide(given + pool, fixes=[fix("Val/_unlabelled/v.png", "a")])
    assert {row.path for row in found.fixed.pool} == {"train/_unlabelled/x.png", "_unlabelled/y.png"}
    assert found.rows == sorted([*divide(given).rows, *(row for row in found.rows if row.path[:5] == "Val/_")],
                                key=lambda row: row.digest)  # fmt: skip
    assert found.split_of[pool[1].digest] == "train"


def test_rows_of_a_table_without_a_label_are_the_pool() -> None:
    """An empty label makes an image unlabelled, with or without a split; so does the folder if no row names it."""
    rows = classes({"a": 4, "b": 4}) + index("x.png", "y.png", "_unlabelled/z.png", "_unlabelled/a9.png", "lost.png")
    table = [LabelRow(row.path, row.path[0], "test" if row.path[-5] == "0" else "train", "") for row in rows[:8]]
    table += [
        LabelRow("x.png", "", "", ""),
        LabelRow("y.png", "", "train", ""),
        LabelRow(rows[-2].path, "a", "train", ""),
    ]
    found = divide(rows, table)

    assert {row.path for row in found.fixed.pool} == {"x.png", "y.png", "_unlabelled/z.png"}
    assert Counter(row.split for row in found.rows) == {"train": 7, "test": 2}


def test_a_copy_of_a_labelled_image_is_not_in_the_pool() -> None:
    """Of copies with and without a label the labelled one counts, and two copies in the pool are one image."""
    rows = [
        *classes({"a": 4, "b": 4}),
        *index("_unlabelled/a1.png"),
        *index("_unlabelled/x.png", "_unlabelled/2/x.png"),
    ]
    found = divide([replace(row, status="duplicate") if row.path == "a/a1.png" else row for row in rows])

    assert [row.path for row in found.fixed.pool] == ["_unlabelled/2/x.png"]
    assert {row.path for row in found.rows} == {row.path for row in rows[:8]}


def test_what_belongs_to_the_test_set_is_not_in_the_pool() -> None:
    """An unlabelled image in the test folder, or of a tested group, never trains: it is left out, and counted."""
    rows, table = grouped([("ab"[number % 2], 2, f"g{number}") for number in range(16)])
    tested = next(row.group for row in divide(rows, table).rows if row.split == "test")
    trained = next(row.group for row in divide(rows, table).rows if row.split == "train")
    rows += index("x.png", "y.png")
    table += [LabelRow("x.png", "", "", tested), LabelRow("y.png", "", "", trained)]
    found = divide(rows, table, fixes=[fix("x.png", "a"), fix("y.png", "b")])
    assert (found.fixed.held_back, found.fixed.unused) == (["x.png"], ["x.png"])
    told = results.describe(rows, found.parted, ["a", "b"], found.fixed, [])
    assert "1 of them have a label fix without effect, the first 'x.png'" in told
    assert "y.png" in {row.path for row in found.rows}
    assert "x.png" not in {row.path for row in found.rows}
    assert divide(rows, table, fixes=[fix("x.png", "drop")]).fixed.held_back == []

    given = classes({"a": 3, "b": 3}, "train/") + classes({"a": 2, "b": 2}, "val/") + index("val/_unlabelled/x.png")
    found = divide(given)
    assert (found.fixed.held_back, found.fixed.pool) == (["val/_unlabelled/x.png"], [])
    told = results.describe(given, found.parted, ["a", "b"], found.fixed, [])
    assert "1 images without a label are left out, because the test set has their group or folder" in told
    assert [row.path for row in divide(given, method="stratified").fixed.pool] == ["val/_unlabelled/x.png"]


def test_a_declared_class_needs_training_images_only() -> None:
    """A class that only fixes name may lack test images; one of the folders may lack them if a fix declares it."""
    rows = classes({"a": 8, "b": 8, "typo": 1}) + index(*POOL)
    with pytest.raises(DataError, match=r"cannot be divided: 'typo' has 1 image\(s\).* or declare the class there"):
        divide(rows)
    assert "typo" in {row.label for row in divide(rows, fixes=[LabelFix("", "", "typo")]).rows}
    for label in ("a", "drop"):
        assert {row.label for row in divide(rows, fixes=[fix("typo/typo0.png", label)]).rows} == {"a", "b"}
    found = divide(rows, fixes=[DECLARED, fix("typo/typo0.png", "new"), fix(POOL[0], "new")])
    assert {row.split for row in found.rows if row.label == "new"} == {"train"}


def test_fixes_must_leave_something_to_train_and_to_test() -> None:
    """A class whose only images are tested, an empty test set, or a single class left over is an error."""
    rows = classes({"a": 4, "b": 4})
    split_of = {row.path: row.split for row in divide(rows).rows}
    tested = [path for path, split in split_of.items() if split == "test"]
    with pytest.raises(DataError, match=r"classes without training images: \['new'\]"):
        divide(rows, fixes=[DECLARED, fix(tested[0], "new")])
    with pytest.raises(DataError, match="the test set is empty"):
        divide(rows, fixes=[fix(path, "drop") for path in tested])
    with pytest.raises(DataError, match=r"found 1 class\(es\) with images: \['a'\]"):
        divide(rows, fixes=[fix(row.path, "a") for row in rows])
    with pytest.raises(DataError, match="found 0 images with one label"):
        divide(index(*POOL))


def test_a_settled_conflict_moves_no_other_image() -> None:
    """Copies with two labels that a fix settles join the training set, or the split that the folders give them."""
    rows = classes({"a": 8, "b": 8}) + index("a/both.png", "b/both.png")
    before = divide(rows, conflicts="drop")
    after = divide(rows, fixes=[fix("a/both.png", "b")])
    assert after.split_of == before.split_of | {rows[-1].digest: "train"}

    given = classes({"a": 3, "b": 3}, "train/") + classes({"a": 2, "b": 2}, "val/")
    given += index("train/a/both.png", "val/b/both.png")
    assert divide(given, fixes=[fix("val/b/both.png", "b")]).split_of[given[-1].digest] == "test"


@pytest.mark.parametrize("name", ["", "a/b", "train", "Valid"])
def test_the_pool_has_the_name_of_a_folder(name: str) -> None:
    """A path or the name of a split cannot name the pool."""
    with pytest.raises(ValidationError, match="the name of one folder"):
        split_params(unlabelled=name)


def test_copies_in_the_pool_with_two_groups_contradict_each_other() -> None:
    """Where copies without a label have two groups, one of them may be tested: an error, or none is used."""
    rows = classes({"a": 20, "b": 20}) + index("_unlabelled/p1_x.png", "_unlabelled/p2_x.png")
    rows[-1] = replace(rows[-1], digest=rows[-2].digest, status="duplicate")
    with pytest.raises(DataError, match="same bytes under different groups"):
        divide(rows, group=r"/([a-z]\d+)")
    assert divide(rows, group=r"/([a-z]\d+)", conflicts="drop").fixed.pool == []
