"""The layout of the data set: labels, splits and groups, from its folders or from the user's table."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from headstart.base.errors import DataError
from headstart.tables.index import USABLE, IndexRow, LabelRow
from headstart.tables.names import SPLIT_NAMES
from stages.split.bursts import find_bursts
from stages.split.params import EXIF_BURST, SplitParams

# Duplicates are included, because a copy may lie in another split or have another label.
LABELLED = (*USABLE, "duplicate")


@dataclass(frozen=True)
class LabelledImage:
    """An image with its label, split and group, from the folders or the table.

    Attributes:
        row: Row of the image in the index.
        label: Name of its class; empty for an image of the pool, which has none.
        split: `train`, `val` or `test`; None if the data set does not say.
        group: Name of its group, whose images belong together; None if the data set does not say.
    """

    row: IndexRow
    label: str
    split: str | None
    group: str | None


@dataclass(frozen=True)
class Layout:
    """All images with their labels, splits and groups.

    Attributes:
        images: Usable images with a label, and their copies, in the order of the index.
        source: `folders` or `table`.
        notes: Warnings for the user.
        pool: Usable images without a label, and their copies, in the order of the index.
    """

    images: Sequence[LabelledImage]
    source: str
    notes: Sequence[str]
    pool: Sequence[LabelledImage] = ()


@dataclass(frozen=True)
class Folders:
    """The folders of a data set, as a folder layout sees them.

    Attributes:
        rows: Rows of usable images and their copies, in the order of the index.
        parts: Path of each row, split into the names of its folders and of the file.
        tops: Names of the top folders that hold such images, and those in `damaged`.
        damaged: Names of the top folders that are called like a split and have only quarantined images.
    """

    rows: Sequence[IndexRow]
    parts: Sequence[tuple[str, ...]]
    tops: frozenset[str]
    damaged: frozenset[str]


def read_layout(index: Sequence[IndexRow], table: Sequence[LabelRow], params: SplitParams) -> Layout:
    """Label images by the table if there is one, else by their folders. Those without a label are the pool.

    Args:
        index: The index.
        table: Rows of the user's table; empty without one.
        params: The section `split`.

    Raises:
        DataError: An image lies in no class folder, only some of the top folders are split folders, a split folder
            `test` has only damaged images, `split.group` finds no group in a path, or only some rows of the table have
            splits.
    """
    rows = [row for row in index if row.status in LABELLED]
    if table:
        layout = _read_table(index, rows, table, params.unlabelled)
    else:
        pool = [image for row in rows if (image := _in_pool_folder(row, params.unlabelled))]
        pooled = {image.row.path for image in pool}
        layout = _read_folders(_see_folders(index, [row for row in rows if row.path not in pooled]), params)
        layout = replace(layout, pool=pool)
    if params.group is None:
        return layout
    together = [*layout.images, *layout.pool]
    groups, notes = (
        _bursts(together, params.burst_seconds)
        if params.group == EXIF_BURST
        else (_groups_in_paths(together, params.group), [])
    )
    grouped = [replace(image, group=group) for image, group in zip(together, groups, strict=True)]
    num = len(layout.images)
    return Layout(grouped[:num], layout.source, [*layout.notes, *notes], grouped[num:])


def _in_pool_folder(row: IndexRow, name: str) -> LabelledImage | None:
    """Return an image of the pool if the row lies in a folder called `name`, at the top or in a split folder."""
    folders = row.path.split("/")[:-1]
    if folders[:1] == [name]:
        return LabelledImage(row, "", None, None)
    if folders[1:2] == [name] and folders[0].lower() in SPLIT_NAMES:
        return LabelledImage(row, "", SPLIT_NAMES[folders[0].lower()], None)
    return None


def _groups_in_paths(images: Sequence[LabelledImage], pattern: str) -> list[str]:
    expression = re.compile(pattern)
    found = [expression.search(image.row.path) for image in images]
    groups = [match[1] if match else "" for match in found]
    strange = [image.row.path for image, group in zip(images, groups, strict=True) if not group]
    if strange:
        raise DataError(
            f"split.group: {pattern!r} finds no group in {len(strange)} of {len(images)} paths, the first "
            f"{strange[0]!r}; expected a group in every path below data.path. Correct split.group, or rename the files."
        )
    return groups


def _bursts(images: Sequence[LabelledImage], seconds: float) -> tuple[list[str], list[str]]:
    bursts = find_bursts((image.row for image in images), seconds)
    timeless = [image.row.path for image in images if not image.row.taken]
    notes = []
    if timeless:
        notes.append(
            f"split.group is {EXIF_BURST}, but {len(timeless)} of {len(images)} images do not say when they were taken "
            f"(EXIF DateTimeOriginal), the first {timeless[0]!r}: each of them is a group of its own"
        )
    return [bursts[image.row.digest] for image in images], notes


def _read_table(
    index: Sequence[IndexRow], rows: Sequence[IndexRow], table: Sequence[LabelRow], unlabelled: str
) -> Layout:
    row_of = {row.path: row for row in table}
    num_labelled = sum(bool(row.label) for row in table)
    num_with_split = sum(bool(row.label and row.split) for row in table)
    if num_with_split not in (0, num_labelled):
        raise DataError(
            f"the table gives a split to {num_with_split} of {num_labelled} images with a label; expected all or none. "
            "Fill or empty the column `split`."
        )
    images: list[LabelledImage] = []
    pool: list[LabelledImage] = []
    unlisted = []
    for row in rows:
        of = row_of.get(row.path)
        if of is not None:
            image = LabelledImage(row, of.label, of.split or None, of.group or None)
            (images if of.label else pool).append(image)
        elif found := _in_pool_folder(row, unlabelled):
            pool.append(found)
        else:
            unlisted.append(row.path)
    notes = []
    if unlisted:
        notes.append(f"{len(unlisted)} images are not in the table and are not used, the first {unlisted[0]!r}")
    states = {row.path: f"{row.status}: {row.reason}" for row in index if row.status not in LABELLED}
    unusable = [row.path for row in table if row.path in states]
    if unusable:
        first = unusable[0]
        notes.append(f"{len(unusable)} images of the table cannot be used, the first {first!r} ({states[first]})")
    return Layout(images, "table", notes, pool)


def _read_folders(folders: Folders, params: SplitParams) -> Layout:
    for read in FOLDER_LAYOUTS:
        layout = read(folders, params)
        if layout is not None:
            return layout
    raise AssertionError("the last layout reads all folders")


def _see_folders(index: Sequence[IndexRow], rows: Sequence[IndexRow]) -> Folders:
    parts = [PurePosixPath(row.path).parts for row in rows]
    used = {names[0] for names in parts if len(names) > 1}
    quarantined = {row.path.split("/")[0] for row in index if row.status == "quarantined" and "/" in row.path}
    damaged = {top for top in quarantined - used if top.lower() in SPLIT_NAMES}
    return Folders(rows, parts, frozenset(used | damaged), frozenset(damaged))


def _read_split_folders(folders: Folders, params: SplitParams) -> Layout | None:
    """Read `<split>/<class>/<image>`.

    The top folders are split folders if all of them are called train, val (valid, validation) or test, and there are
    `train` and at least one other. A single folder called `train` beside other folders, with images directly in it, is
    a class of trains. A split folder counts even if all its files are damaged. Otherwise another split would silently
    become the test set.
    """
    named = {top for top in folders.tops if top.lower() in SPLIT_NAMES}
    splits = {SPLIT_NAMES[top.lower()] for top in named}
    if named != folders.tops or "train" not in splits or len(splits) == 1:
        holds_classes = any(len(names) > 2 and names[0] in named for names in folders.parts)
        if len(named) > 1 or (holds_classes and params.class_depth == 1):
            raise DataError(
                f"{sorted(named)} look like split folders, but the top folders are {sorted(folders.tops)}; expected "
                "either train with val, test or both, or only class folders. Rename or move folders."
            )
        return None
    if params.method == "auto" and params.reported != "val" and "test" in map(str.lower, folders.damaged):
        raise DataError(
            "the split folder `test` has files but no usable image (data/index.csv says why). Repair them, remove the "
            "folder, or set split.reported to val."
        )
    labels, notes = _read_classes(folders, params, above=["<split>"])
    images = [
        LabelledImage(row, label, SPLIT_NAMES[names[0].lower()], None)
        for row, names, label in zip(folders.rows, folders.parts, labels, strict=True)
    ]
    return Layout(images, "folders", notes)


def _read_class_folders(folders: Folders, params: SplitParams) -> Layout:
    """Read `<class>/<image>`."""
    labels, notes = _read_classes(folders, params, above=[])
    images = [LabelledImage(row, label, None, None) for row, label in zip(folders.rows, labels, strict=True)]
    return Layout(images, "folders", notes)


# Layouts of folders, in the order in which they are tried. A reader returns None if the folders have another layout.
# To add one, write a reader and put it before the last one, which reads all folders.
FOLDER_LAYOUTS: tuple[Callable[[Folders, SplitParams], Layout | None], ...] = (_read_split_folders, _read_class_folders)


def _read_classes(folders: Folders, params: SplitParams, above: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the class of every image, and notes.

    Args:
        folders: The folders.
        params: The section `split`, which says how many folder names make the class.
        above: Kinds of the folders above the class folders, such as `<split>`, for the message.

    Raises:
        DataError: An image lies in no class folder.
    """
    start = len(above)
    least = start + (1 if params.class_depth == "all" else params.class_depth)
    loose = [row.path for row, names in zip(folders.rows, folders.parts, strict=True) if len(names) <= least]
    if loose:
        shape = "/".join([*above, *["<class>"] * (least - start), "<image>"])
        raise DataError(
            f"{len(loose)} image(s) are in no class folder, the first {loose[0]!r}; expected {shape}. "
            "Move them into class folders, or out of the data set."
        )
    deeper = [row.path for row, names in zip(folders.rows, folders.parts, strict=True) if len(names) > least + 1]
    notes = []
    if deeper and params.class_depth != "all":
        notes.append(
            f"{len(deeper)} images lie in folders inside class folders, the first {deeper[0]!r}: their class is "
            f"{'/'.join(PurePosixPath(deeper[0]).parts[start:least])!r} (split.class_depth: {params.class_depth})"
        )
    end = -1 if params.class_depth == "all" else least
    return ["/".join(names[start:end]) for names in folders.parts], notes
