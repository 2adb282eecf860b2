"""Fixes: the corrections of labels that people made, applied to the images."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from headstart.base.csv_files import csv_line
from headstart.base.errors import DataError
from headstart.tables.index import IndexRow
from headstart.tables.label_fixes import DROP, LabelFix
from stages.split.layout import LABELLED, LabelledImage


@dataclass(frozen=True)
class Fixed:
    """Images with corrected labels.

    Attributes:
        images: All images except the dropped ones.
        num_relabelled: Number of images that have another label now. An image and its copies count as one.
        num_dropped: Number of images that were dropped. An image and its copies count as one.
    """

    images: Sequence[LabelledImage]
    num_relabelled: int
    num_dropped: int


class Place(NamedTuple):
    """The row of a fix in its file, and its label."""

    number: int
    label: str


def apply_fixes(
    images: Sequence[LabelledImage], index: Sequence[IndexRow], fixes: Sequence[LabelFix], path: Path
) -> Fixed:
    """Apply the fixes to images. A fix also applies to copies of its image.

    Args:
        images: Images with their labels from the folders or the table.
        index: The index. It shows whether an image without a label is unused or does not exist.
        fixes: Corrections, in the order of their file.
        path: The file, for messages.

    Raises:
        DataError: A fix names an image that does not exist or is not used, an unknown class, or an image that
            another fix names too, or its file has other bytes now.
    """
    digests = {row.path: row.digest for row in index} | {row.digest: row.digest for row in index if row.digest}
    labelled = {image.row.digest for image in images}
    states = {row.digest: row.status for row in index}
    classes = sorted({image.label for image in images} | {fix.label for fix in fixes if fix.declares_class})
    chosen: dict[str, Place] = {}
    for number, fix in enumerate(fixes, start=2):  # as a spreadsheet counts them
        where, image = f"{path}: row {number}", fix.path or fix.digest
        digest = digests.get(fix.digest or fix.path, "")
        if fix.label == DROP and DROP in classes:
            raise DataError(f"{where}: a class is called {DROP!r} too. Give the class another name.")
        if fix.label not in (DROP, *classes):
            raise DataError(
                f"{where}: {fix.label!r} is not a class{_near(fix.label, classes)} and not `drop`. To make it a class, "
                f"add the row {csv_line(['', '', fix.label, '', '', 'new class'])!r}."
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
        if digest not in labelled:
            why = states.get(digest, "not read") if states.get(digest) not in LABELLED else "not in the table"
            raise DataError(f"{where}: {image!r} is not used ({why}: data/index.csv). Remove the row.")
        if digest in chosen:
            raise DataError(f"{where}: {image!r} is already fixed by row {chosen[digest].number}. Remove one of them.")
        chosen[digest] = Place(number, fix.label)
    changed = {
        image.row.digest
        for image in images
        if image.row.digest in chosen and chosen[image.row.digest].label != image.label
    }
    dropped = {digest for digest, fix in chosen.items() if fix.label == DROP}
    return Fixed(
        images=[
            replace(image, label=chosen[image.row.digest].label) if image.row.digest in chosen else image
            for image in images
            if image.row.digest not in dropped
        ],
        num_relabelled=len(changed - dropped),
        num_dropped=len(dropped),
    )


_OTHER = "Correct or remove the row; fixes of another data set go into a file of their own (split.label_fixes)."


def _near(name: str, known: Sequence[str]) -> str:
    if re.fullmatch("[0-9a-f]{64}", name):
        return ""
    near = difflib.get_close_matches(name, known[:10_000], n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
