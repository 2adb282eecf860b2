"""The partition: every image gets a split, by its label in folders or table, and one of several copies is used.

Label fixes play no part in it. So a label that is corrected, an image that is dropped or one that is labelled moves no
other image into another split.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headstart.base.errors import DataError
from headstart.tables.split import SplitRow
from stages.split.draw import Drawn, draw_groups, draw_images, drawn_fractions, split_by_hash
from stages.split.layout import LabelledImage, Layout
from stages.split.params import SplitParams


@dataclass(frozen=True)
class Conflict:
    """An image whose copies contradict each other.

    Attributes:
        copies: All its copies, by path.
        row: Its row once a label fix says what it is, without a label until then. None if the copies have different
            groups, which no label settles.
    """

    copies: Sequence[LabelledImage]
    row: SplitRow | None


@dataclass(frozen=True)
class Partition:
    """The split of every image.

    Attributes:
        rows: Rows of the split table, in the order of their digests.
        conflicts: Images whose copies have different labels or groups, in the order of their digests.
        pool: Rows of the images without a label, in the order of their digests: the split that each has once it is
            labelled, which is `train`, or that of its group. One in `test` can never be labelled.
        undivided: What is wrong with each class that cannot have an image in every split, by label.
        origin: Where the splits come from, in words.
        num_across_splits: Images with copies in more than one given split.
    """

    rows: Sequence[SplitRow]
    conflicts: Sequence[Conflict]
    pool: Sequence[SplitRow]
    undivided: Mapping[str, str]
    origin: str
    num_across_splits: int


@dataclass(frozen=True)
class _Placed:
    """Images with their splits, one row for each digest."""

    rows: Sequence[SplitRow]
    origin: str
    undivided: Mapping[str, str] = field(default_factory=dict)
    num_across_splits: int = 0


def partition(layout: Layout, params: SplitParams) -> Partition:
    """Give every image a split. Of several copies only one is used.

    Splits from the folders or the table are kept, unless `split.method` says otherwise. The test set is then `test`, or
    `val` if there is no `test`; its rows are called `test`. If copies lie in several splits, the one in the test set is
    used.

    Args:
        layout: All images and copies, with their labels, splits and groups.
        params: The section `split`.

    Raises:
        DataError: No image has a label, or a given split has no images. The message says what to do.
    """
    copies = _by_digest(layout.images)
    agreed = [same for same in copies.values() if not _is_conflict(same)]
    if not agreed:
        raise DataError("found 0 images with one label; expected at least 2 classes. Add labelled images.")
    is_given = agreed[0][0].split is not None and params.method == "auto"
    reported = _reported(agreed, layout.source, params) if is_given else None
    placed = _given(agreed, layout.source, str(reported), params) if is_given else _drawn(agreed, params)
    sides = {row.group: row.split for row in placed.rows}
    conflicts = []
    for same in (same for same in copies.values() if _is_conflict(same)):
        first = _chosen(same, reported)
        if is_given:
            split = _named(first, reported)
        elif params.method == "hash":
            split = split_by_hash(first, params)
        else:
            split = sides.get(str(first.group), "train")
        is_settled_by_a_label = len({image.group for image in same}) == 1
        conflicts.append(Conflict(same, _row(first, split, "") if is_settled_by_a_label else None))
    pool = []
    for same in _by_digest(image for image in layout.pool if image.row.digest not in copies).values():
        if _is_conflict(same):
            conflicts.append(Conflict(same, None))
            continue
        first = _chosen(same, reported)
        is_tested = reported is not None and first.split == reported
        pool.append(_row(first, "test" if is_tested else sides.get(str(first.group), "train"), ""))
    return Partition(
        *(placed.rows, conflicts, pool, placed.undivided),
        origin=placed.origin,
        num_across_splits=placed.num_across_splits,
    )


def _by_digest(images: Iterable[LabelledImage]) -> dict[str, list[LabelledImage]]:
    copies = defaultdict(list)
    for image in sorted(images, key=lambda image: image.row.path):
        copies[image.row.digest].append(image)
    return {digest: copies[digest] for digest in sorted(copies)}


def _is_conflict(same: Sequence[LabelledImage]) -> bool:
    return len({(image.label, image.group) for image in same}) > 1


def _chosen(same: Sequence[LabelledImage], reported: str | None) -> LabelledImage:
    """Return the copy that counts: the first by path, but one in the test set before all others."""
    return min(same, key=lambda image: (reported is not None and image.split != reported, image.row.path))


def _named(image: LabelledImage, reported: str | None) -> str:
    return "test" if image.split == reported else str(image.split)


def _drawn(copies: Sequence[Sequence[LabelledImage]], params: SplitParams) -> _Placed:
    firsts = [_chosen(same, None) for same in copies]
    if params.method == "hash":
        drawn, origin = Drawn([split_by_hash(image, params) for image in firsts], {}), "by hash"
    elif firsts[0].group is None:
        drawn, origin = draw_images(firsts, params), "drawn from every class"
    else:
        drawn, origin = draw_groups(firsts, params), "drawn by groups"
    rows = [_row(image, split, image.label) for image, split in zip(firsts, drawn.splits, strict=True)]
    fractions = " and ".join(f"{fraction:g} for `{split}`" for split, fraction in drawn_fractions(params).items())
    return _Placed(rows, f"{origin}: {fractions}, seed {params.seed}", drawn.undivided)


def _reported(copies: Sequence[Sequence[LabelledImage]], source: str, params: SplitParams) -> str:
    """Return the name of the given split that is the test set."""
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
    return reported


def _given(copies: Sequence[Sequence[LabelledImage]], source: str, reported: str, params: SplitParams) -> _Placed:
    images = [_chosen(same, reported) for same in copies]
    origin = f"given by the {source}; the test set is `{reported}`"
    if params.reported == "auto" and reported == "val":
        origin += " (there is no test)"
    num_across = sum(len({image.split for image in same}) > 1 for same in copies)
    if num_across:
        origin += (
            f"; {num_across} images have copies in more than one split; the copy in the test set counts, or one of them"
        )
    rows = [_row(image, _named(image, reported), image.label) for image in images]
    return _Placed(rows, origin, num_across_splits=num_across)


def _row(image: LabelledImage, split: str, label: str) -> SplitRow:
    group = image.row.digest if image.group is None else image.group
    return SplitRow(image.row.digest, image.row.path, label, split, group)
