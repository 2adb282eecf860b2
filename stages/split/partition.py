"""The partition: every image gets a split, and one of several copies is used."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.base.errors import DataError
from headstart.tables.split import SplitRow
from stages.split.draw import draw_by_hash, draw_groups, draw_images
from stages.split.layout import LabelledImage
from stages.split.params import SplitParams


@dataclass(frozen=True)
class Partition:
    """The split of every image.

    Attributes:
        rows: Rows of the split table, in the order of their digests.
        origin: Where the splits come from, in words.
        num_across_splits: Images with copies in more than one given split.
        num_conflicts: Images that are not used because their copies have different labels or groups.
    """

    rows: Sequence[SplitRow]
    origin: str
    num_across_splits: int
    num_conflicts: int


def partition(images: Sequence[LabelledImage], source: str, params: SplitParams) -> Partition:
    """Give every image a split. Of several copies only one is used.

    Splits from the folders or the table are kept, unless `split.method` says otherwise. The test set is then `test`, or
    `val` if there is no `test`; its rows are called `test`. If copies lie in several splits, the one in the test set is
    used.

    Args:
        images: All images and copies, with their labels, splits and groups.
        source: `folders` or `table`, for messages.
        params: The section `split`.

    Raises:
        DataError: Fewer than two classes, copies with different labels or groups, a split without images, a group in
            two given splits, or a class with too few images. The message names it and says what to do.
    """
    copies = defaultdict(list)
    for image in images:
        copies[image.row.digest].append(image)
    agreed = [copies[digest] for digest in sorted(copies) if not _is_conflict(copies[digest])]
    num_conflicts = len(copies) - len(agreed)
    if num_conflicts and params.conflicts == "fail":
        raise DataError(_describe_conflicts([same for same in copies.values() if _is_conflict(same)]))
    labels = sorted({same[0].label for same in agreed})
    if len(labels) < 2:
        raise DataError(f"found {len(labels)} class(es) with images: {labels}; expected at least 2. Add another class.")
    if agreed[0][0].split is not None and params.method == "auto":
        rows, origin, num_across_splits = _given(agreed, source, params)
        return Partition(rows, origin, num_across_splits, num_conflicts)
    firsts = [min(same, key=lambda image: image.row.path) for same in agreed]
    if params.method == "hash":
        splits, origin = draw_by_hash(firsts, params), "by hash"
    elif firsts[0].group is None:
        splits, origin = draw_images(firsts, params), "drawn from every class"
    else:
        splits, origin = draw_groups(firsts, params), "drawn by groups"
    rows = [_row(image, split) for image, split in zip(firsts, splits, strict=True)]
    fractions = f"{params.test_fraction:g} for `test`"
    fractions += f" and {params.val_fraction:g} for `val`" if params.val_fraction else ""
    return Partition(rows, f"{origin}: {fractions}, seed {params.seed}", 0, num_conflicts)


def _is_conflict(same: Sequence[LabelledImage]) -> bool:
    return len({(image.label, image.group) for image in same}) > 1


def _describe_conflicts(conflicts: Sequence[Sequence[LabelledImage]]) -> str:
    first = sorted(conflicts[0], key=lambda image: image.row.path)
    what = "labels" if len({image.label for image in first}) > 1 else "groups"
    names = ", ".join(repr(image.row.path) for image in first)
    fix = "give the label" if what == "labels" else "drop the image"
    return (
        f"{len(conflicts)} image(s) have the same bytes under different {what}, the first: {names} (data/index.csv "
        f"lists all as duplicate). Remove the wrong ones, or {fix} in split.label_fixes; or set "
        "split.conflicts to drop, which uses none of them."
    )


def _given(
    copies: Sequence[Sequence[LabelledImage]], source: str, params: SplitParams
) -> tuple[list[SplitRow], str, int]:
    found = Counter(image.split for same in copies for image in same)
    reported = params.reported if params.reported != "auto" else "test" if found["test"] else "val"
    if not found[reported] or not found["train"]:
        raise DataError(
            f"splits in the {source} are {sorted(str(split) for split in found)}; expected images in train and in "
            f"{reported}, which is the test set (split.reported). Add images, or change split.reported."
        )
    if reported == "val" and found["test"]:
        raise DataError(
            f"split.reported is val, but there are {found['test']} images in test, which would be training images. "
            "Remove them, or set split.reported to test."
        )
    images = [min(same, key=lambda image: (image.split != reported, image.row.path)) for same in copies]
    trained = {image.label for image in images if image.split != reported}
    absent = sorted({image.label for image in images} - trained)
    if absent:
        raise DataError(
            f"classes without training images: {absent}; all their images, or copies of them, are in the test set "
            f"`{reported}`. Add images, or remove the class."
        )
    sides = defaultdict(set)
    for image in images:
        if image.group is not None:
            sides[image.group].add(str(image.split))
    divided = sorted(group for group, splits in sides.items() if len(splits) > 1)
    if divided:
        raise DataError(
            f"{len(divided)} group(s) are divided, the first {divided[0]!r} between {sorted(sides[divided[0]])}; "
            "expected each in one split. Move its images, or set split.method to stratified, which draws whole groups."
        )
    rows = [_row(image, "test" if image.split == reported else str(image.split)) for image in images]
    origin = f"given by the {source}; the test set is `{reported}`"
    if params.reported == "auto" and reported == "val":
        origin += " (there is no test)"
    num_across = sum(len({image.split for image in same}) > 1 for same in copies)
    if num_across:
        origin += (
            f"; {num_across} images have copies in more than one split; the copy in the test set counts, or one of them"
        )
    return rows, origin, num_across


def _row(image: LabelledImage, split: str) -> SplitRow:
    group = image.row.digest if image.group is None else image.group
    return SplitRow(image.row.digest, image.row.path, image.label, split, group)
