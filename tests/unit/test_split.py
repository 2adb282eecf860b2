"""Labels and splits: what folders say is kept, what is drawn is stratified, seeded and stable."""

import hashlib
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import DataError
from stages.core.tables import IndexRow, SplitRow
from stages.split.params import SplitParams
from stages.split.partition import partition

PARAMS = SplitParams(test_fraction=0.25, seed=0)


def index(*paths: str, status: str = "ok") -> list[IndexRow]:
    """Return index rows whose digests follow from their paths' last parts."""
    return [
        IndexRow(path, hashlib.sha256(path.split("/")[-1].encode()).hexdigest(), "PNG", 8, 8, status, "")
        for path in paths
    ]


def classes(counts: dict[str, int], prefix: str = "") -> list[IndexRow]:
    """Return index rows of class folders with so many images each."""
    return index(*(f"{prefix}{name}/{name}{prefix[:2]}{i}.png" for name, count in counts.items() for i in range(count)))


def splits(rows: list[SplitRow]) -> dict[str, Counter[str]]:
    """Count the labels of every split."""
    return {split: Counter(row.label for row in rows if row.split == split) for split in {row.split for row in rows}}


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(2, 60), min_size=2),
    st.floats(0.01, 0.99),
    st.integers(0, 99),
)
def test_a_drawn_split_is_stratified(counts: dict[str, int], fraction: float, seed: int) -> None:
    """Every image is in one split, each class divided as exactly as whole images allow, never all on one side."""
    rows, _ = partition(classes(counts), SplitParams(test_fraction=fraction, seed=seed))
    found = splits(rows)

    assert len(rows) == sum(counts.values()) == len({row.digest for row in rows})
    for name, count in counts.items():
        assert 1 <= found["test"][name] <= count - 1
        assert abs(found["test"][name] - count * fraction) <= 1


@given(st.permutations(classes({"a": 8, "b": 8})))
def test_the_order_of_the_index_changes_nothing(rows: list[IndexRow]) -> None:
    """The draw depends on bytes and labels, not on the file system's order."""
    assert partition(rows, PARAMS) == partition(classes({"a": 8, "b": 8}), PARAMS)


def test_names_of_files_change_nothing() -> None:
    """After renaming files within their classes the same images, by their bytes, are reported on."""
    rows = classes({"a": 8, "b": 8})
    renamed = [replace(row, path=f"{row.path[0]}/{row.digest[::-1]}.png") for row in rows]
    before, after = partition(rows, PARAMS)[0], partition(renamed, PARAMS)[0]

    assert [(row.digest, row.split) for row in before] == [(row.digest, row.split) for row in after]


def test_the_seed_decides() -> None:
    """The same seed draws the same images, another seed others."""
    rows = classes({"a": 30, "b": 30})
    other = SplitParams(test_fraction=0.25, seed=1)

    assert partition(rows, PARAMS) == partition(rows, PARAMS)
    assert partition(rows, PARAMS)[0] != partition(rows, other)[0]


def test_given_folders_are_kept() -> None:
    """With train, val and test folders, test is reported and the others are for training and selection."""
    rows, origin = partition(
        classes({"a": 3, "b": 3}, "train/") + classes({"a": 2, "b": 2}, "valid/") + classes({"a": 1, "b": 1}, "Test/"),
        PARAMS,
    )

    assert splits(rows) == {"train": {"a": 3, "b": 3}, "val": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}}
    assert "reported on `test`" in origin


def test_val_is_reported_where_there_is_no_test() -> None:
    """With train and val only, val is the reported split, and that is said."""
    rows, origin = partition(classes({"a": 3, "b": 3}, "train/") + classes({"a": 2, "b": 2}, "val/"), PARAMS)

    assert splits(rows) == {"train": {"a": 3, "b": 3}, "test": {"a": 2, "b": 2}}
    assert origin == "given by the folders; reported on `val` (there is no test folder)"


def test_a_class_may_be_called_train() -> None:
    """A folder of trains beside other vehicles is a class."""
    rows, _ = partition(classes({"train": 8, "bus": 8}), PARAMS)

    assert {row.label for row in rows} == {"bus", "train"}


@pytest.mark.parametrize("reported", ["val", "Val", "test"])
def test_of_copies_across_given_splits_the_reported_one_counts(reported: str) -> None:
    """A photo that is in train and in the reported folder is reported, not trained on, whatever the folders' names."""
    rows = classes({"a": 3, "b": 3}, "train/") + index(f"{reported}/a/atr0.png", f"{reported}/b/new.png")
    marked = [replace(row, status="duplicate") if row.path == "train/a/atr0.png" else row for row in rows]
    for index_rows in (rows, marked):
        found, origin = partition(index_rows, PARAMS)

        assert splits(found) == {"train": {"a": 2, "b": 3}, "test": {"a": 1, "b": 1}}
        assert f"{reported}/a/atr0.png" in {row.path for row in found}
        assert "1 images are in more than one split" in origin


def test_only_usable_files_take_part() -> None:
    """Quarantined and skipped files get no row, and of copies only one does."""
    odd = [row for status in ("quarantined", "skipped") for row in index(f"a/{status}.png", status=status)]
    copy = replace(classes({"a": 1})[0], path="a/copy.png", status="duplicate")
    rows, _ = partition([*classes({"a": 8, "b": 8}), *odd, copy], PARAMS)

    assert len(rows) == 16


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (classes({"a": 8}), "found 1 class folder"),
        (classes({"a": 8, "b": 8}) + index("loose.png"), "lie in no class folder, the first 'loose.png'"),
        (classes({"a": 8, "b": 1}), r"classes with a single image: \['b'\]"),
        (
            classes({"a": 8, "b": 8}) + index("b/a1.png", status="duplicate"),
            "same bytes under different labels, the first: 'a/a1.png', 'b/a1.png'",
        ),
        (classes({"a": 2, "b": 2}, "train/") + index("val/x.png"), "expected <split>/<class>/<image>"),
        (
            classes({"a": 2, "b": 2}, "train/") + classes({"a": 1, "c": 1}, "val/"),
            r"classes without an image to train on: \['c'\]",
        ),
        (classes({"a": 2}, "train/") + classes({"a": 1}, "val/") + index("extra/x.png"), "look like split folders"),
        (classes({"a": 2, "b": 2}, "val/") + classes({"a": 1, "b": 1}, "test/"), "look like split folders"),
        (classes({"a": 2, "b": 2}, "train/") + classes({"a": 1, "b": 1}, "dev/"), "look like split folders"),
        (classes({"a": 2, "b": 2}, "train/"), "look like split folders"),
    ],
)
def test_what_cannot_be_split_is_refused(rows: list[IndexRow], words: str) -> None:
    """Every impossible request is an error that says which class or file, and what would work."""
    with pytest.raises(DataError, match=words):
        partition(rows, PARAMS)
