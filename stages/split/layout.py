"""The layout of the data set's folders: what they say of labels and splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from stages.core.errors import DataError
from stages.core.tables import IndexRow

_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class LabelledImage:
    """What an image's place in the folders says.

    Attributes:
        row: Of the index.
        label: Name of its class folder.
        split: `train`, `val` or `test` by its split folder; None where the data set has no such folders.
    """

    row: IndexRow
    label: str
    split: str | None


def read_layout(rows: Sequence[IndexRow]) -> list[LabelledImage]:
    """Label images by their folders: `<class>/...` or, with given splits, `<split>/<class>/...`.

    Split folders are meant when every top folder is called train, val (valid, validation) or test, and `train` and
    another one are there. A single folder called `train` beside others, with images right in it, is a class of trains.

    Args:
        rows: Index rows, of any status.

    Raises:
        DataError: An image lies in no class folder, or only some of the top folders are split folders.
    """
    parts = [PurePosixPath(row.path).parts for row in rows]
    tops = {names[0] for names in parts if len(names) > 1}
    meant = {top for top in tops if top.lower() in _SPLIT_FOLDERS}
    splits = {_SPLIT_FOLDERS[top.lower()] for top in meant}
    given = meant == tops and "train" in splits and len(splits) > 1
    holds_classes = any(len(names) > 2 and names[0] in meant for names in parts)
    if not given and (len(meant) > 1 or holds_classes):
        raise DataError(
            f"{sorted(meant)} look like split folders, but the top folders are {sorted(tops)}; expected train and val "
            "or test (or both) and nothing beside them, or class folders only"
        )
    depth = 2 if given else 1
    loose = [row.path for row, names in zip(rows, parts, strict=True) if len(names) <= depth]
    if loose:
        shape = "<split>/<class>/<image>" if given else "<class>/<image>"
        raise DataError(
            f"{len(loose)} image(s) lie in no class folder, the first {loose[0]!r}; expected {shape}. "
            "Move them into class folders, or out of the data set."
        )
    return [
        LabelledImage(row, label=names[depth - 1], split=_SPLIT_FOLDERS[names[0].lower()] if given else None)
        for row, names in zip(rows, parts, strict=True)
    ]
