"""Labels and splits: given ones are kept; drawn ones are stratified and stable, and never divide a group."""

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headstart.base.errors import DataError
from headstart.tables.index import IndexRow, LabelRow
from headstart.tables.label_fixes import LabelFix
from headstart.tables.split import SplitRow
from stages.split import layout as layout_module
from stages.split import results
from stages.split.checks import check_split
from stages.split.fixes import Fixed, apply_fixes
from stages.split.layout import Folders, LabelledImage, Layout, read_layout
from stages.split.params import SplitParams
from stages.split.partition import Partition, partition

FIXES = Path("fixes.csv")


def split_params(**changes: Any) -> SplitParams:
    """Return the shipped params, changed."""
    values: dict[str, Any] = {
        "class_depth": 1,
        "class_order": "text",
        "ignore_case": False,
        "label_fixes": "data/label_fixes",
        "unlabelled": "_unlabelled",
        "conflicts": "fail",
        "method": "auto",
        "reported": "auto",
        "test_fraction": 0.25,
        "val_fraction": 0.0,
        "group": None,
        "burst_seconds": 10.0,
        "seed": 0,
    }
    return SplitParams.model_validate(values | changes)


@dataclass(frozen=True)
class Divided:
    """What the stage makes of a data set."""

    parted: Partition
    fixed: Fixed

    @property
    def rows(self) -> Sequence[SplitRow]:
        """Return the rows of the split table."""
        return self.fixed.rows

    @property
    def split_of(self) -> dict[str, str]:
        """Return the split of each image, by digest."""
        return {row.digest: row.split for row in self.rows}


def divide(
    rows: Sequence[IndexRow], table: Sequence[LabelRow] = (), fixes: Sequence[LabelFix] = (), **changes: Any
) -> Divided:
    """Return what the stage makes of an index, a table, label fixes and changed params."""
    found = divide_unchecked(rows, table, fixes, **changes)
    check_split(found.rows, found.parted.undivided, found.fixed.declared, split_params(**changes))
    return found


def divide_unchecked(
    rows: Sequence[IndexRow], table: Sequence[LabelRow] = (), fixes: Sequence[LabelFix] = (), **changes: Any
) -> Divided:
    """Return the same, also if classes lack training images."""
    params = split_params(**changes)
    parted = partition(read_layout(rows, table, params), params)
    return Divided(parted, apply_fixes(parted, rows, fixes, FIXES, params.conflicts))


def index(*paths: str, status: str = "ok") -> list[IndexRow]:
    """Return index rows of paths. Files with the same name have the same digest."""
    return [
        IndexRow(path, hashlib.sha256(path.split("/")[-1].encode()).hexdigest(), "PNG", 8, 8, status, "")
        for path in paths
    ]


def classes(counts: dict[str, int], prefix: str = "") -> list[IndexRow]:
    """Return index rows of class folders with a number of images each."""
    return index(*(f"{prefix}{name}/{name}{prefix[:2]}{i}.png" for name, count in counts.items() for i in range(count)))


def grouped(counts: Sequence[tuple[str, int, str]]) -> tuple[list[IndexRow], list[LabelRow]]:
    """Return an index and a table, from (class, number of images, group)."""
    table = [
        LabelRow(f"{group}-{label}-{i}.png", label, "", group) for label, count, group in counts for i in range(count)
    ]
    return index(*(row.path for row in table)), table


def splits(rows: Sequence[SplitRow]) -> dict[str, Counter[str]]:
    """Return the number of images of each label, by split."""
    return {split: Counter(row.label for row in rows if row.split == split) for split in {row.split for row in rows}}


def sides(rows: Sequence[SplitRow]) -> dict[str, set[str]]:
    """Return the splits of every group."""
    found = defaultdict(set)
    for row in rows:
        found[row.group].add(row.split)
    return found


several_classes = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(3, 60), min_size=2)
groupings = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.integers(0, 12).map(lambda number: f"g{number}")),
    min_size=12,
    max_size=40,
    unique_by=lambda one: (one[0], one[2]),
)


@given(several_classes, st.floats(0.01, 0.99), st.floats(0.01, 0.98), st.integers(0, 99))
def test_a_drawn_split_is_stratified(counts: dict[str, int], test: float, val: float, seed: int) -> None:
    """Every image is in one split; each class is within one image of its fractions and has images in every split."""
    val = 0.0 if test + val >= 1 else val
    rows = divide(classes(counts), test_fraction=test, val_fraction=val, seed=seed).rows
    found = splits(rows)

    assert len(rows) == sum(counts.values()) == len({row.digest for row in rows})
    for name, count in counts.items():
        assert sum(split[name] for split in found.values()) == count
        for split, fraction in (("test", test), ("val", val)):
            if fraction:
                assert found[split][name] >= 1
                within = abs(found[split][name] - count * fraction) <= 1
                assert within or found["train"][name] == 1 or found["val"][name] == 1  # every split needs one
        assert found["train"][name] >= 1


@given(groupings, st.sampled_from(["stratified", "hash"]), st.sampled_from([0.0, 0.2]), st.integers(0, 9))
def test_a_group_is_never_divided(counts: list[tuple[str, int, str]], method: str, val: float, seed: int) -> None:
    """All images of a group are in one split, no image is lost, and every class has training images."""
    rows, table = grouped(counts)
    try:
        found = divide(rows, table, method=method, val_fraction=val, seed=seed).rows
    except DataError:
        return  # some class has too few groups

    assert len(found) == len(rows)
    assert {len(split) for split in sides(found).values()} == {1}
    assert set(splits(found)["train"]) == {label for label, *_ in counts}
    if method == "stratified":
        assert set(splits(found)["test"]) == {label for label, *_ in counts}


def test_groups_come_near_the_fractions() -> None:
    """With many groups, every class is within a few images of its fractions."""
    counts = [("abc"[number % 3], 1 + number % 5, f"g{number}") for number in range(120)]
    found = splits(divide(*grouped(counts), method="stratified", val_fraction=0.1).rows)
    totals = Counter[str]()
    for label, count, _ in counts:
        totals[label] += count

    for label, total in totals.items():
        assert abs(found["test"][label] - 0.25 * total) <= 3
        assert abs(found["val"][label] - 0.1 * total) <= 3


def test_a_group_with_several_classes_is_held_back_first() -> None:
    """One group with images of every class is held back rather than one group for each class."""
    of = {"g0": (1, 2), "g1": (3, 0), "g2": (2, 1)}
    counts = [(label, of[group][place], group) for group in of for place, label in enumerate("ab") if of[group][place]]
    for seed in range(8):
        rows = divide(*grouped(counts), test_fraction=0.1, seed=seed).rows
        assert len({row.group for row in rows if row.split == "test"}) == 1


def test_groups_are_kept_for_later_splits() -> None:
    """A large first split leaves each class a group for every other split."""
    counts = [(label, 1, f"g{number}") for number in range(3) for label in "ab"]
    for seed in range(8):
        rows = divide(*grouped(counts), test_fraction=0.6, val_fraction=0.2, seed=seed).rows
        assert {split: dict(found) for split, found in splits(rows).items()} == {
            name: {"a": 1, "b": 1} for name in ("train", "val", "test")
        }


@given(st.lists(st.sampled_from([("a",), ("b",), ("a", "b")]), min_size=2, max_size=6), st.integers(0, 3))
def test_groups_that_can_be_divided_are(groups: list[tuple[str, ...]], seed: int) -> None:
    """Without a `val` split, groups are divided whenever some choice of groups has every class on both sides."""
    counts = [(label, 1, f"g{number}") for number, labels in enumerate(groups) for label in labels]

    def covers(chosen: tuple[bool, ...]) -> bool:
        sides = [{label for labels, held in zip(groups, chosen, strict=True) if held is side for label in labels}
                 for side in (True, False)]  # fmt: skip
        return all(side == {"a", "b"} for side in sides)

    feasible = any(covers(chosen) for chosen in itertools.product((True, False), repeat=len(groups)))
    if feasible:
        found = splits(divide(*grouped(counts), seed=seed).rows)
        assert set(found["test"]) == set(found["train"]) == {"a", "b"}


@given(st.sets(st.integers(0, 999), min_size=40, max_size=60), st.sets(st.integers(1000, 1999), max_size=20))
def test_by_hash_added_groups_move_no_others(old: set[int], new: set[int]) -> None:
    """Old groups, and old images without groups, keep their splits when new ones are added."""
    before = divide(*grouped([("ab"[n % 2], 2, f"g{n}") for n in sorted(old)]), method="hash").rows
    after = divide(*grouped([("ab"[n % 2], 2, f"g{n}") for n in sorted(old | new)]), method="hash").rows
    assert set(before) <= set(after)

    before = divide(index(*(f"{'ab'[n % 2]}/{n}.png" for n in sorted(old))), method="hash").rows
    after = divide(index(*(f"{'ab'[n % 2]}/{n}.png" for n in sorted(old | new))), method="hash").rows
    assert set(before) <= set(after)


def test_by_hash_the_fractions_hold_on_average() -> None:
    """Many images come near the fractions, and another seed holds back other images."""
    rows = divide(classes({"a": 2000, "b": 2000}), method="hash", test_fraction=0.3, val_fraction=0.1).rows
    counts = Counter(row.split for row in rows)

    assert abs(counts["test"] - 1200) < 120
    assert abs(counts["val"] - 400) < 80
    assert rows != divide(classes({"a": 2000, "b": 2000}), method="hash", test_fraction=0.3, seed=1).rows


@given(st.permutations(classes({"a": 8, "b": 8})), st.sampled_from(["auto", "stratified", "hash"]))
def test_the_order_of_the_index_changes_nothing(rows: list[IndexRow], method: str) -> None:
    """The draw depends on bytes and labels, not on the order of the index."""
    assert divide(rows, method=method) == divide(classes({"a": 8, "b": 8}), method=method)


@pytest.mark.parametrize("method", ["stratified", "hash"])
def test_names_of_files_change_nothing(method: str) -> None:
    """If files are renamed within their classes, the test set has the same images, by their bytes."""
    rows = classes({"a": 8, "b": 8})
    renamed = [replace(row, path=f"{row.path[0]}/{row.digest[::-1]}.png") for row in rows]
    before, after = divide(rows, method=method).rows, divide(renamed, method=method).rows

    assert [(row.digest, row.split) for row in before] == [(row.digest, row.split) for row in after]


def test_the_seed_decides() -> None:
    """The same seed draws the same images or groups, another seed draws others."""
    rows = classes({"a": 30, "b": 30})
    groups = grouped([("ab"[number % 2], 2, f"g{number}") for number in range(40)])

    assert divide(rows) == divide(rows)
    assert divide(rows).rows != divide(rows, seed=1).rows
    assert divide(*groups).rows != divide(*groups, seed=1).rows


def test_given_folders_are_kept() -> None:
    """With train, val and test folders, each folder is its split."""
    parted = divide(
        classes({"a": 3, "b": 3}, "train/") + classes({"a": 2, "b": 2}, "valid/") + classes({"a": 1, "b": 1}, "Test/"),
    )

    assert splits(parted.rows) == {"train": {"a": 3, "b": 3}, "val": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}}
    assert parted.parted.origin == "given by the folders; the test set is `test`"


def test_val_is_the_test_set_if_there_is_no_test() -> None:
    """With train and val only, val becomes the test set, and the output says so; `split.reported: val` agrees."""
    rows = classes({"a": 3, "b": 3}, "train/") + classes({"a": 2, "b": 2}, "val/")
    parted = divide(rows)

    assert splits(parted.rows) == {"train": {"a": 3, "b": 3}, "test": {"a": 2, "b": 2}}
    assert parted.parted.origin == "given by the folders; the test set is `val` (there is no test)"
    declared = divide(rows, reported="val")
    assert declared.rows == parted.rows
    assert declared.parted.origin == "given by the folders; the test set is `val`"


def test_a_test_folder_without_a_usable_image_is_refused() -> None:
    """A test folder with only damaged files is an error: val does not silently replace it. It stays a split folder."""
    bad = index("test/a/bad.png", "test/b/bad.png", status="quarantined")
    rows = [*classes({"a": 3, "b": 3}, "train/"), *classes({"a": 3, "b": 3}, "val/"), *bad]
    with pytest.raises(DataError, match="the split folder `test` has files but no usable image"):
        divide(rows)
    with pytest.raises(DataError, match="the split folder `test` has files but no usable image"):
        divide([*classes({"a": 3, "b": 3}, "train/"), *bad], class_depth="all")
    assert splits(divide(rows, reported="val").rows)["test"] == {"a": 3, "b": 3}
    assert {row.label for row in divide(rows, method="stratified").rows} == {"a", "b"}


def test_given_splits_can_be_ignored() -> None:
    """With `split.method: stratified`, images are drawn from all split folders."""
    rows = classes({"a": 6, "b": 6}, "train/") + classes({"a": 2, "b": 2}, "val/")

    assert splits(divide(rows, method="stratified").rows) == {"train": {"a": 6, "b": 6}, "test": {"a": 2, "b": 2}}


def test_another_layout_of_folders_is_one_function_and_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is put first in the registry labels its folders, and leaves those of other layouts to the rest."""

    def read_flat(folders: Folders, _: SplitParams) -> Layout | None:
        """Read `<class>_<number>.png`, without folders."""
        if folders.tops:
            return None
        images = [LabelledImage(row, row.path.split("_")[0], None, None) for row in folders.rows]
        return Layout(images, "names", [])

    rows = index("cat_1.png", "cat_2.png", "dog_1.png", "dog_2.png")
    with pytest.raises(DataError, match="are in no class folder"):
        divide(rows)
    before = divide(classes({"a": 8, "b": 8})).rows
    monkeypatch.setattr(layout_module, "FOLDER_LAYOUTS", (read_flat, *layout_module.FOLDER_LAYOUTS))

    assert splits(divide(rows).rows) == {"train": {"cat": 1, "dog": 1}, "test": {"cat": 1, "dog": 1}}
    assert divide(classes({"a": 8, "b": 8})).rows == before


def test_a_class_may_be_called_train() -> None:
    """A folder `train` beside other class folders is a class of trains."""
    assert {row.label for row in divide(classes({"train": 8, "bus": 8})).rows} == {"bus", "train"}


@pytest.mark.parametrize(
    ("depth", "expected"), [(1, {"animal", "thing"}), (2, {"animal/cat", "animal/dog", "thing/cup"}), ("all", None)]
)
def test_class_depth_says_which_folders_make_the_class(depth: int | str, expected: set[str] | None) -> None:
    """One folder, several or all folders above the image make the class; a note counts images in deeper folders."""
    rows = index(
        *(f"{folder}/{folder[-3:]}{i}.png" for folder in ("animal/cat", "animal/dog", "thing/cup") for i in range(4)),
        *(f"thing/cup/red/{i}.png" for i in range(4)),
    )
    params = split_params(class_depth=depth)
    layout = read_layout(rows, [], params)
    expected = expected or {"animal/cat", "animal/dog", "thing/cup", "thing/cup/red"}

    assert {image.label for image in layout.images} == expected
    deeper = {1: ["16 images lie in folders inside"], 2: ["4 images lie in folders inside"], "all": []}[depth]
    assert [note.split(" class")[0] for note in layout.notes] == deeper
    given = [replace(row, path=f"{part}/{row.path}") for part in ("train", "test") for row in rows]
    assert {image.label for image in read_layout(given, [], params).images} == expected


def test_classes_are_ordered_by_text_or_by_number() -> None:
    """10 comes after 2 only in the natural order, where numbers may have any length."""
    long = [replace(row, label=label) for row in divide(classes({"a": 2, "b": 2})).rows for label in ("1" * 5000, "2")]
    assert results.order_classes(long, "natural") == ["2", "1" * 5000]
    rows = divide(classes({"2": 4, "10": 4, "1": 4, "01": 4, "x9y": 4, "x10y": 4, "ab": 4})).rows

    assert results.order_classes(rows, "text") == ["01", "1", "10", "2", "ab", "x10y", "x9y"]
    assert results.order_classes(rows, "natural") == ["01", "1", "2", "10", "ab", "x9y", "x10y"]


@pytest.mark.parametrize("reported", ["val", "Val", "test"])
def test_of_copies_across_given_splits_the_one_in_the_test_set_counts(reported: str) -> None:
    """A photo in train and in the test set is tested, not trained on, for any name of the split folder."""
    rows = classes({"a": 3, "b": 3}, "train/") + index(f"{reported}/a/atr0.png", f"{reported}/b/new.png")
    rows += index("train/a/more/atr1.png", status="duplicate")  # both copies are in train, so it is not counted
    marked = [replace(row, status="duplicate") if row.path == "train/a/atr0.png" else row for row in rows]
    for index_rows in (rows, marked):
        found = divide(index_rows)

        assert splits(found.rows) == {"train": {"a": 2, "b": 3}, "test": {"a": 1, "b": 1}}
        assert f"{reported}/a/atr0.png" in {row.path for row in found.rows}
        assert found.parted.num_across_splits == 1
        assert "1 images have copies in more than one split" in found.parted.origin


def test_only_usable_files_are_split() -> None:
    """Quarantined and skipped files have no row, and of several copies one has."""
    odd = [row for status in ("quarantined", "skipped") for row in index(f"a/{status}.png", status=status)]
    copy = replace(classes({"a": 1})[0], path="a/copy.png", status="duplicate")

    assert len(divide([*classes({"a": 8, "b": 8}), *odd, copy]).rows) == 16


def test_conflicting_copies_can_be_dropped() -> None:
    """Copies with two labels or two groups are an error that says what to do, or are all dropped."""
    rows = classes({"a": 8, "b": 8}) + index("b/a1.png", status="duplicate")
    found = divide(rows, conflicts="drop")
    assert len(found.rows) == 15
    assert found.fixed.num_conflicts == 1
    assert index("a/a1.png")[0].digest not in {row.digest for row in found.rows}

    rows, table = grouped([("ab"[number % 2], 2, f"g{number}") for number in range(20)])
    rows.append(replace(rows[0], path="copy.png", status="duplicate"))
    table.append(LabelRow("copy.png", table[0].label, "", "g5"))
    with pytest.raises(DataError, match="different groups, the first: 'copy.png', 'g0-a-0.png' .* or drop the image"):
        divide(rows, table)
    assert len(divide(rows, table, conflicts="drop").rows) == 39


def test_a_table_gives_the_same_splits_as_folders() -> None:
    """The same labels and splits from a table give identical rows; a note counts images that are not in the table."""
    rows = classes({"a": 3, "b": 3}, "train/") + classes({"a": 2, "b": 2}, "val/")
    table = [LabelRow(row.path, row.path.split("/")[1], row.path.split("/")[0], "") for row in rows]

    assert divide(rows, table).rows == divide(rows).rows
    more = [*rows, *index("extra.png"), *index("bad.png", status="quarantined")]
    layout = read_layout(more, [*table, LabelRow("bad.png", "a", "train", "")], split_params())
    assert partition(layout, split_params()).rows == divide(rows).rows
    assert [note.split(",")[0] for note in layout.notes] == [
        "1 images are not in the table and are not used",
        "1 images of the table cannot be used",
    ]


def test_groups_are_found_in_paths() -> None:
    """The part of the path in parentheses is the group, with folders and with tables, where it replaces the column."""
    rows = index(*(f"{'ab'[n % 2]}/patient{n // 4}_{n}.png" for n in range(40)))
    found = divide(rows, group=r"/(patient\d+)_").rows
    assert {row.group for row in found} == {f"patient{number}" for number in range(10)}
    assert {len(split) for split in sides(found).values()} == {1}

    table = [LabelRow(row.path, row.path[0], "", "all") for row in rows]
    assert divide(rows, table, group=r"/(patient\d+)_").rows == found
    with pytest.raises(DataError, match=r"finds no group in 1 of 41 paths, the first 'a/x\.png'"):
        divide([*rows, *index("a/x.png")], group=r"/(patient\d+)_")


def test_each_image_is_a_group_of_its_own_without_groups() -> None:
    """Without groups, the group of an image is its digest, so a reader of the table need not treat this case."""
    assert all(row.group == row.digest for row in divide(classes({"a": 8, "b": 8})).rows)


def fix(path: str, label: str) -> LabelFix:
    """Return a correction."""
    return LabelFix("", path, label)


def test_label_fixes_are_applied_by_path_or_digest() -> None:
    """A fix relabels or drops an image and its copies, and settles the label of copies that contradict each other."""
    rows = classes({"a": 8, "b": 8}) + index("b/a1.png", "a/more/a1.png", status="duplicate")
    fixes = [fix("a/a1.png", "b"), LabelFix(rows[0].digest, "", "drop"), fix("b/b0.png", "a"), fix("b/b1.png", "b")]
    fixed = divide(rows, fixes=fixes).fixed
    labels = {row.path: row.label for row in fixed.rows}

    assert [(row.path, row.given, row.label) for row in sorted(fixed.relabelled, key=lambda row: row.path)] == [
        ("a/a1.png", "", "b"),
        ("b/b0.png", "b", "a"),
    ]
    assert fixed.num_dropped == 1
    assert labels["a/a1.png"] == "b"
    assert labels["b/b0.png"] == "a"
    assert labels["b/b1.png"] == "b"
    assert "a/a0.png" not in labels
    assert len(labels) == 15


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([fix("a/a11.png", "b")], r"row 2: 'a/a11.png' is not an image of this data set \(did you mean 'a/a1.png'\?\)"),
        ([LabelFix("0" * 64, "", "b")], "is not an image of this data set. Correct or remove the row"),
        ([fix("a/a1.png", "bb")], r"'bb' is not a class \(did you mean 'b'\?\) and not `drop`"),
        ([fix("a/a1.png", "b"), fix("a/a1.png", "drop")], "row 3: 'a/a1.png' is already fixed by row 2"),
        (
            [LabelFix("0" * 64, "a/a1.png", "b")],
            "file 'a/a1.png' has other bytes now: sha256 is .*, the row has 000",
        ),
        ([fix("a/a1.png", "c")], "To make it a class, add the row ',,c,,,new class'"),
        ([fix("a/bad.png", "b")], r"'a/bad.png' is not used \(quarantined: data/index.csv\)"),
    ],
)
def test_wrong_fixes_are_refused(wrong: list[LabelFix], words: str) -> None:
    """A fix of an unknown or unused image, to an unknown class, or a second fix is an error that names its row."""
    rows = classes({"a": 8, "b": 8}) + index("a/bad.png", status="quarantined")

    with pytest.raises(DataError, match=words):
        divide(rows, fixes=wrong)


def test_a_row_without_an_image_declares_a_class() -> None:
    """Images can be given a class that no folder has, if a row of the fixes declares it."""
    names = ["a/a1.png", "a/a2.png", "a/a3.png", "a/a4.png"]
    parted = divide(
        classes({"a": 8, "b": 8}), fixes=[LabelFix("", "", "c", why="new"), *(fix(name, "c") for name in names)]
    )

    assert {row.path for row in parted.rows if row.label == "c"} == set(names)
    assert len(parted.rows) == 16


def test_a_fix_of_a_class_called_drop_is_refused() -> None:
    """If a class is called `drop`, a fix with that label is ambiguous, so it is an error."""
    with pytest.raises(DataError, match="a class is called 'drop' too"):
        divide(classes({"a": 8, "drop": 8}), fixes=[fix("a/a1.png", "drop")])


def test_the_numbers_agree_with_the_tables() -> None:
    """Files by state, images by split and by class in the classes' order, fixes and conflicts are counted."""
    rows = [
        *classes({"a": 8, "b": 4}),
        *index("b/a1.png", "b/again.png", status="duplicate"),
        *index("x.txt", status="skipped"),
        *index("_unlabelled/x.png", "_unlabelled/y.png", "_unlabelled/z.png"),
    ]
    rows[-5] = replace(rows[-5], digest=rows[2].digest)  # a third image in two classes
    params = split_params(conflicts="drop")
    layout = read_layout(rows, [], params)
    parted = partition(layout, params)
    fixes = [fix("a/a3.png", "b"), fix("b/b0.png", "drop"), fix("_unlabelled/x.png", "a")]
    fixed = apply_fixes(parted, rows, fixes, FIXES, "drop")
    names = results.order_classes(fixed.rows, "text")
    numbers = results.numbers(rows, parted, names, fixed)

    assert json.loads(json.dumps(numbers)) == {
        "num_files": 18,
        "num_classes": 2,
        "num_ok": 15,
        "num_repaired": 0,
        "num_duplicate": 2,
        "num_quarantined": 0,
        "num_skipped": 1,
        "num_train": 7,
        "num_val": 0,
        "num_test": 3,
        "num_across_splits": 0,
        "num_conflicts": 2,
        "num_relabelled": 1,
        "num_dropped": 1,
        "num_unlabelled": 2,
        "num_labelled_by_fixes": 1,
        "classes": ["a", "b"],
        "train": [4, 3],
        "val": [0, 0],
        "test": [2, 1],
    }
    told = results.describe(rows, parted, names, fixed, layout.notes)
    assert "label fixes: 1 relabelled, 1 dropped" in told
    assert "WARNING: 2 images are left out: their copies contradict each other" in told


def test_a_folder_without_a_usable_image_is_reported() -> None:
    """A class whose files are all bad has no images, so a warning names its folder."""
    rows = [*classes({"a": 8, "b": 8}), *index("c/x.png", status="quarantined")]
    layout = read_layout(rows, [], split_params())
    parted = partition(layout, split_params())
    fixed = apply_fixes(parted, rows, [], FIXES, "fail")

    told = results.describe(rows, parted, ["a", "b"], fixed, layout.notes)
    assert "folders with files but no usable image (data/index.csv says why): ['c']" in told


TABLE = [LabelRow(f"{name}/{name}{i}.png", name, "", "") for name in "ab" for i in range(8)]


@pytest.mark.parametrize(
    ("rows", "changes", "words"),
    [
        (classes({"a": 8}), {}, r"found 1 class\(es\) with images"),
        (classes({"a": 8, "b": 8}) + index("loose.png"), {}, "are in no class folder, the first 'loose.png'"),
        (classes({"a": 8, "b": 8}), {"class_depth": 2}, "expected <class>/<class>/<image>"),
        (classes({"a": 8, "b": 1}), {}, r"cannot be divided: 'b' has 1 image\(s\); expected at least 2.*train, test"),
        (
            classes({"a": 8, "b": 2}),
            {"val_fraction": 0.1},
            r"'b' has 2 image\(s\); expected at least 3 images or groups.* one for each of",
        ),
        (
            classes({"a": 8, "b": 8}) + index("b/a1.png", status="duplicate"),
            {},
            "same bytes under different labels, the first: 'a/a1.png', 'b/a1.png'",
        ),
        (classes({"a": 2, "b": 2}, "train/") + index("val/x.png"), {}, "expected <split>/<class>/<image>"),
        (
            classes({"a": 2, "b": 2}, "train/") + classes({"a": 1, "c": 1}, "val/"),
            {},
            r"classes without training images: \['c'\]",
        ),
        (classes({"a": 2}, "train/") + classes({"a": 1}, "val/") + index("extra/x.png"), {}, "look like split folders"),
        (classes({"a": 2, "b": 2}, "val/") + classes({"a": 1, "b": 1}, "test/"), {}, "look like split folders"),
        (classes({"a": 2, "b": 2}, "train/") + classes({"a": 1, "b": 1}, "dev/"), {}, "look like split folders"),
        (classes({"a": 2, "b": 2}, "train/"), {}, "look like split folders"),
        (
            classes({"a": 2, "b": 2}, "train/") + classes({"a": 1}, "val/"),
            {"reported": "test"},
            r"splits in the folders are \['train', 'val'\]; expected images in train and in test, which is",
        ),
        (
            classes({"a": 2, "b": 2}, "train/") + classes({"a": 1}, "val/") + classes({"a": 1}, "test/"),
            {"reported": "val"},
            "split.reported is val, but there are 1 images in test",
        ),
        (
            index("train/a/p1_1.png", "train/b/p2_2.png", "test/a/p1_3.png", "test/b/p3_4.png"),
            {"group": "/(p.)_"},
            r"1 group\(s\) are divided, the first 'p1' between \['test', 'train'\]",
        ),
        (
            index(*(f"{'ab'[n % 2]}/p{n % 2}_{n}.png" for n in range(20))),
            {"group": "/(p.)_"},
            r"'a' has images in 1 group\(s\), the first 'p0'; 'b' has",
        ),
        (
            index("a/1.png", "b/2.png"),
            {"method": "hash", "test_fraction": 0.99},
            r"classes without training images: \['a', 'b'\]",
        ),
        (index("a/1.png", "b/2.png"), {"method": "hash", "test_fraction": 0.001}, "the test set is empty"),
    ],
)
def test_what_cannot_be_split_is_refused(rows: list[IndexRow], changes: dict[str, Any], words: str) -> None:
    """Every split that cannot be made is an error that names the class, group or file, and says what would work."""
    with pytest.raises(DataError, match=words):
        divide(rows, **changes)


def test_a_table_with_some_splits_is_refused() -> None:
    """Either all rows of a table have a split or none has."""
    table = [replace(row, split="train") if number else row for number, row in enumerate(TABLE)]

    with pytest.raises(DataError, match="gives a split to 15 of 16 images"):
        divide(classes({"a": 8, "b": 8}), table)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_fraction": 0.6, "val_fraction": 0.4}, "a sum of test_fraction and val_fraction below 1.*; found 1"),
        ({"group": "no part"}, "one part in parentheses"),
        ({"group": "((a)b"}, "a regular expression over the path"),
    ],
)
def test_params_that_cannot_be_meant_are_refused(changes: dict[str, Any], words: str) -> None:
    """Params that contradict themselves are errors before anything is read."""
    with pytest.raises(ValidationError, match=words):
        split_params(**changes)
