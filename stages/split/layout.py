"""The layout of the data set: labels, splits and groups, as its folders or the user's table give them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from headstart.base.errors import DataError
from headstart.tables.index import USABLE, IndexRow, LabelRow
from headstart.tables.names import SPLIT_NAMES
from stages.split.params import SplitParams

# Copies count here too: a copy may lie in another split or have another label.
LABELLED = (*USABLE, "duplicate")


@dataclass(frozen=True)
class LabelledImage:
    """An image with what folders or table say about it.

    Attributes:
        row: Its row of the index.
        label: Its class.
        split: `train`, `val` or `test`; None if the data set does not say.
        group: Name of the images that belong together; None if the data set does not say.
    """

    row: IndexRow
    label: str
    split: str | None
    group: str | None


@dataclass(frozen=True)
class Layout:
    """All images with what folders or table say about them.

    Attributes:
        images: Usable images and their copies, in the order of the index.
        source: `folders` or `table`.
        notes: Sentences that the user should read.
    """

    images: Sequence[LabelledImage]
    source: str
    notes: Sequence[str]


def read_layout(index: Sequence[IndexRow], table: Sequence[LabelRow], params: SplitParams) -> Layout:
    """Label images by the table if there is one, else by their folders.

    Args:
        index: The index.
        table: Rows of the user's table; empty without one.
        params: How to read folders, and what groups are.

    Raises:
        DataError: An image lies in no class folder, only some of the top folders are split folders, a path has no
            group, or only some rows of the table have splits.
    """
    rows = [row for row in index if row.status in LABELLED]
    layout = _read_table(index, rows, table) if table else _read_folders(index, rows, params)
    if params.group is None:
        return layout
    expression = re.compile(params.group)
    images, strange = [], []
    for image in layout.images:
        found = expression.search(image.row.path)
        if found and found[1]:
            images.append(LabelledImage(image.row, image.label, image.split, found[1]))
        else:
            strange.append(image.row.path)
    if strange:
        raise DataError(
            f"split.group: {params.group!r} finds no group in {len(strange)} of {len(layout.images)} paths, the first "
            f"{strange[0]!r}; expected a group in every path below data.path"
        )
    return Layout(images, layout.source, layout.notes)


def _read_table(index: Sequence[IndexRow], rows: Sequence[IndexRow], table: Sequence[LabelRow]) -> Layout:
    said = {row.path: row for row in table}
    num_with_split = sum(bool(row.split) for row in table)
    if num_with_split not in (0, len(table)):
        raise DataError(f"the table gives a split to {num_with_split} of {len(table)} images; expected all or none")
    images = [
        LabelledImage(row, said[row.path].label, said[row.path].split or None, said[row.path].group or None)
        for row in rows
        if row.path in said
    ]
    notes = []
    unlisted = [row.path for row in rows if row.path not in said]
    if unlisted:
        notes.append(f"{len(unlisted)} images are not in the table and are not used, the first {unlisted[0]!r}")
    states = {row.path: f"{row.status}: {row.reason}" for row in index if row.status not in LABELLED}
    unusable = [row.path for row in table if row.path in states]
    if unusable:
        first = unusable[0]
        notes.append(f"{len(unusable)} images of the table cannot be used, the first {first!r} ({states[first]})")
    return Layout(images, "table", notes)


def _read_folders(index: Sequence[IndexRow], rows: Sequence[IndexRow], params: SplitParams) -> Layout:
    """Read `<class>/...` or, with given splits, `<split>/<class>/...`.

    The top folders are split folders if each is called train, val (valid, validation) or test, and `train` and another
    one exist. A single folder called `train` beside others, with images directly in it, is a class of trains.
    """
    parts = [PurePosixPath(row.path).parts for row in rows]
    tops = {names[0] for names in parts if len(names) > 1}
    # A split folder counts even if all its files are damaged. Else another split would silently be the test set.
    bare = {row.path.split("/")[0] for row in index if row.status == "quarantined" and "/" in row.path} - tops
    bare = {top for top in bare if top.lower() in SPLIT_NAMES}
    tops |= bare
    meant = {top for top in tops if top.lower() in SPLIT_NAMES}
    splits = {SPLIT_NAMES[top.lower()] for top in meant}
    given = meant == tops and "train" in splits and len(splits) > 1
    holds_classes = any(len(names) > 2 and names[0] in meant for names in parts)
    if not given and (len(meant) > 1 or (holds_classes and params.class_depth == 1)):
        raise DataError(
            f"{sorted(meant)} look like split folders, but the top folders are {sorted(tops)}; expected train and val "
            "or test (or both) and nothing beside them, or class folders only"
        )
    if given and params.method == "auto" and params.reported != "val" and "test" in map(str.lower, bare):
        raise DataError(
            "the split folder `test` has files but no usable image (data/index.csv says why). Repair them, remove the "
            "folder, or set split.reported to val."
        )
    start = 1 if given else 0
    least = start + (1 if params.class_depth == "all" else params.class_depth)
    loose = [row.path for row, names in zip(rows, parts, strict=True) if len(names) <= least]
    if loose:
        shape = "/".join(["<split>"] * start + ["<class>"] * (least - start) + ["<image>"])
        raise DataError(
            f"{len(loose)} image(s) are in no class folder, the first {loose[0]!r}; expected {shape}. "
            "Move them into class folders, or out of the data set."
        )
    deeper = [row.path for row, names in zip(rows, parts, strict=True) if len(names) > least + 1]
    notes = []
    if deeper and params.class_depth != "all":
        notes.append(
            f"{len(deeper)} images lie in folders inside class folders, the first {deeper[0]!r}: their class is "
            f"{'/'.join(PurePosixPath(deeper[0]).parts[start:least])!r} (split.class_depth: {params.class_depth})"
        )
    end = -1 if params.class_depth == "all" else least
    images = [
        LabelledImage(row, "/".join(names[start:end]), SPLIT_NAMES[names[0].lower()] if given else None, None)
        for row, names in zip(rows, parts, strict=True)
    ]
    return Layout(images, "folders", notes)
