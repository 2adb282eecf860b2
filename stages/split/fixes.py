"""Fixes: the corrections of labels that people made, applied when every image has its split."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from headstart.base.csv_files import csv_line
from headstart.base.errors import DataError
from headstart.tables.index import IndexRow
from headstart.tables.label_fixes import DROP, LabelFix
from headstart.tables.split import PoolRow, RelabelledRow, SplitRow
from stages.split.layout import LABELLED, LabelledImage
from stages.split.partition import Partition


@dataclass(frozen=True)
class Fixed:
    """The split with corrected labels. An image and its copies count as one.

    Attributes:
        rows: Rows of the split table, in the order of their digests.
        pool: Images that still have no label, in the order of their digests.
        declared: Classes that a fix declares.
        relabelled: Images that have another label now, in the order of their digests.
        num_dropped: Number of images that were dropped.
        num_labelled: Number of images of the pool that have a label now.
        num_conflicts: Number of images that are not used because their copies have different labels or groups.
        held_back: Paths of images without a label that are not used: the test set has their group or folder.
        unused: Those among them that a fix labels, without effect.
    """

    rows: Sequence[SplitRow]
    pool: Sequence[PoolRow]
    declared: Collection[str]
    relabelled: Sequence[RelabelledRow]
    num_dropped: int
    num_labelled: int
    num_conflicts: int
    held_back: Sequence[str]
    unused: Sequence[str]


class Place(NamedTuple):
    """The row of a fix in its file, and its label."""

    number: int
    label: str


def apply_fixes(
    parted: Partition, index: Sequence[IndexRow], fixes: Sequence[LabelFix], path: Path, conflicts: str
) -> Fixed:
    """Apply the fixes to a partition. A fix also applies to copies of its image. Every image keeps its split.

    An image of the pool that a fix labels becomes a training image: people label those that help most, which are no
    fair sample to test on.

    Args:
        parted: The partition.
        index: The index. It shows whether an image without a row is unused or does not exist.
        fixes: Corrections, in the order of their file.
        path: The file, for messages.
        conflicts: `split.conflicts`: `fail` or `drop`, for copies that contradict each other and are not fixed.

    Raises:
        DataError: A fix names an image that does not exist or is not used, an unknown class, or an image that
            another fix names too, or its file has other bytes now; or copies contradict each other.
    """
    labels = {row.label for row in parted.rows}
    labels |= {image.label for conflict in parted.conflicts for image in conflict.copies if image.label}
    usable = {row.digest for row in (*parted.rows, *parted.pool)}
    usable |= {conflict.copies[0].row.digest for conflict in parted.conflicts}
    declared = {fix.label for fix in fixes if fix.declares_class}
    decided = _decide(usable, labels | declared, index, fixes, path)
    rows = [replace(row, label=decided.get(row.digest, row.label)) for row in parted.rows]
    relabelled = [
        RelabelledRow(row.digest, row.path, before.label, row.label)
        for row, before in zip(rows, parted.rows, strict=True)
        if row.label not in (before.label, DROP)
    ]
    open_conflicts = []
    for conflict in parted.conflicts:
        label = decided.get(conflict.copies[0].row.digest)
        if label is None or (conflict.row is None and label != DROP):
            open_conflicts.append(conflict.copies)
        elif conflict.row is not None and label != DROP:
            rows.append(replace(conflict.row, label=label))
            relabelled.append(RelabelledRow(conflict.row.digest, conflict.row.path, "", label))
    if open_conflicts and conflicts == "fail":
        raise DataError(_describe_conflicts(open_conflicts))
    may_train = [row for row in parted.pool if row.split != "test"]
    labelled = [replace(row, label=decided[row.digest]) for row in may_train if row.digest in decided]
    rows = [row for row in (*rows, *labelled) if row.label != DROP]
    return Fixed(
        rows=sorted(rows, key=lambda row: row.digest),
        pool=[PoolRow(row.digest, row.path) for row in may_train if row.digest not in decided],
        declared=declared,
        relabelled=sorted(relabelled, key=lambda row: row.digest),
        num_dropped=sum(label == DROP for label in decided.values()),
        num_labelled=sum(row.label != DROP for row in labelled),
        num_conflicts=len(open_conflicts),
        held_back=[row.path for row in parted.pool if row.split == "test" and decided.get(row.digest) != DROP],
        unused=[row.path for row in parted.pool if row.split == "test" and decided.get(row.digest, DROP) != DROP],
    )


def _decide(
    usable: Collection[str], classes: Collection[str], index: Sequence[IndexRow], fixes: Sequence[LabelFix], path: Path
) -> dict[str, str]:
    """Return the label, or `drop`, of each image that a fix names, by digest, after checking all fixes."""
    digests = {row.path: row.digest for row in index} | {row.digest: row.digest for row in index if row.digest}
    states = {row.digest: row.status for row in index}
    chosen: dict[str, Place] = {}
    for number, fix in enumerate(fixes, start=2):  # as a spreadsheet counts them
        where, image = f"{path}: row {number}", fix.path or fix.digest
        digest = digests.get(fix.digest or fix.path, "")
        if fix.label == DROP and DROP in classes:
            raise DataError(f"{where}: a class is called {DROP!r} too. Give the class another name.")
        if fix.label not in (DROP, *classes):
            raise DataError(
                f"{where}: {fix.label!r} is not a class{_near(fix.label, sorted(classes))} and not `drop`. To make it "
                f"a class, add the row {csv_line(['', '', fix.label, '', '', 'new class'])!r}."
            )
        if fix.declares_class:
            continue
        if not digest and digests.get(fix.path):
            raise DataError(
                f"{where}: the file {fix.path!r} has other bytes now: sha256 is {digests[fix.path]}, the row has "
                f"{fix.digest}. Look at it, then correct the digest or remove the row."
            )
        if not digest:
            raise DataError(
                f"{where}: {image!r} is not an image of this data set{_near(image, list(digests))}. {_OTHER}"
            )
        if digest not in usable:
            why = states.get(digest, "not read") if states.get(digest) not in LABELLED else "not in the table"
            raise DataError(f"{where}: {image!r} is not used ({why}: data/index.csv). Remove the row.")
        if digest in chosen:
            raise DataError(f"{where}: {image!r} is already fixed by row {chosen[digest].number}. Remove one of them.")
        chosen[digest] = Place(number, fix.label)
    return {digest: place.label for digest, place in chosen.items()}


def _describe_conflicts(conflicts: Sequence[Sequence[LabelledImage]]) -> str:
    first = conflicts[0]
    what = "labels" if len({image.label for image in first}) > 1 else "groups"
    names = ", ".join(repr(image.row.path) for image in first)
    fix = "give the label" if what == "labels" else "drop the image"
    return (
        f"{len(conflicts)} image(s) have the same bytes under different {what}, the first: {names} (data/index.csv "
        f"lists all as duplicate). Remove the wrong ones, or {fix} in split.label_fixes; or set "
        "split.conflicts to drop, which uses none of them."
    )


_OTHER = "Correct or remove the row; fixes of another data set go into a file of their own (split.label_fixes)."


def _near(name: str, known: Sequence[str]) -> str:
    if re.fullmatch("[0-9a-f]{64}", name):
        return ""
    near = difflib.get_close_matches(name, known[:10_000], n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
