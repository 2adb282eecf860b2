"""Label fixes: a small file in which people correct labels. The photos stay where they are."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.base.csv_files import read_foreign_csv
from headstart.base.errors import DataError
from headstart.tables.index import IndexRow
from stages.split.layout import LABELLED, LabelledImage

DROP = "drop"
_COLUMNS = ["image", "label", "who", "why"]


@dataclass(frozen=True)
class Fix:
    """The correction of one image's label.

    Attributes:
        image: Path of the image as in the index, or sha256 of the file.
        label: Name of the right class, or `drop` to leave the image out.
        where: File and row of the correction, for messages.
    """

    image: str
    label: str
    where: str


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


def read_fixes(path: Path) -> list[Fix]:
    """Read a file with the columns `image, label, who, why`.

    Raises:
        DataError: The file cannot be read, has other columns, or lacks an image or a label.
    """
    remedy = f"Correct split.label_fixes, or create the file with the header {','.join(_COLUMNS)} alone."
    header, lines = read_foreign_csv(path, remedy)
    if header != _COLUMNS:
        raise DataError(f"{path}: columns are {header}; expected {_COLUMNS}. Correct the first line.")
    fixes = []
    for number, line in lines.items():
        if not line[0] or not line[1]:
            raise DataError(f"{path}: row {number} is {line}; expected an image and a label. Fill or remove the row.")
        fixes.append(Fix(line[0], line[1], f"{path}: row {number}"))
    return fixes


def apply_fixes(images: Sequence[LabelledImage], index: Sequence[IndexRow], fixes: Sequence[Fix]) -> Fixed:
    """Apply the fixes to images. A fix also applies to copies of its image.

    Args:
        images: Images with their labels from the folders or the table.
        index: The index. It shows whether an image without a label is unused or does not exist.
        fixes: Corrections, in any order.

    Raises:
        DataError: A fix names an image that does not exist or is not used, an unknown class, or an image that
            another fix names too.
    """
    digests = {row.path: row.digest for row in index} | {row.digest: row.digest for row in index if row.digest}
    labelled = {image.row.digest for image in images}
    states = {row.digest: row.status for row in index}
    classes = sorted({image.label for image in images})
    chosen: dict[str, Fix] = {}
    for fix in fixes:
        digest = digests.get(fix.image)
        if digest is None:
            raise DataError(
                f"{fix.where}: {fix.image!r} is not an image of this data set"
                f"{_near(fix.image, list(digests))}. {_OTHER}"
            )
        if digest not in labelled:
            why = states.get(digest, "not read") if states.get(digest) not in LABELLED else "not in the table"
            raise DataError(f"{fix.where}: {fix.image!r} is not used ({why}: data/index.csv). Remove the row.")
        if digest in chosen:
            raise DataError(
                f"{fix.where}: {fix.image!r} is already fixed by {chosen[digest].where}. Remove one of them."
            )
        if fix.label == DROP and DROP in classes:
            raise DataError(f"{fix.where}: a class is called {DROP!r} too. Give the class another name.")
        if fix.label not in (DROP, *classes):
            raise DataError(
                f"{fix.where}: {fix.label!r} is not a class{_near(fix.label, classes)} and not `drop`. {_OTHER}"
            )
        chosen[digest] = fix
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


_OTHER = "Fixes of another data set go into a file of their own (split.label_fixes)."


def _near(name: str, known: Sequence[str]) -> str:
    if re.fullmatch("[0-9a-f]{64}", name):
        return ""
    near = difflib.get_close_matches(name, known[:10_000], n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
