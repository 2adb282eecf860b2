"""Images: which ones train, which ones choose the epoch, which ones are reported."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.base.errors import DataError
from headstart.linear.folds import make_folds
from headstart.tables.classes import class_numbers
from headstart.tables.index import USABLE, IndexRow
from headstart.tables.split import SplitRow
from stages.finetune.params import FinetuneParams


@dataclass(frozen=True)
class Image:
    """An image with its label.

    Attributes:
        row: Its row of the index.
        label: Its class, by name.
        group: As in the split.
    """

    row: IndexRow
    label: str
    group: str


@dataclass(frozen=True)
class Images:
    """The three parts, each by digest.

    Attributes:
        training: Weights are fitted on them.
        validation: They choose the epoch and calibrate; never trained on.
        reported: Predicted when all is chosen.
    """

    training: Sequence[Image]
    validation: Sequence[Image]
    reported: Sequence[Image]


def part_images(
    index: Sequence[IndexRow], split: Sequence[SplitRow], classes: Sequence[str], params: FinetuneParams
) -> Images:
    """Join both tables and carve the inner validation from the training rows.

    It is the rows of the split `val`, where the data set has some; else one of `folds` parts, groups whole and classes
    in proportion.

    Raises:
        DataError: An image of the split is not in the index, a label is no class, or a part has no image.
    """
    rows = {row.digest: row for row in index if row.status in USABLE}
    strange = sorted({row.label for row in split} - set(classes))
    if strange:
        raise DataError(f"data/split.csv: labels {strange} are not in data/classes.json. Run: dvc repro split")
    lost = [row.path for row in split if row.digest not in rows]
    if lost:
        raise DataError(
            f"data/split.csv: {len(lost)} images are not in data/index.csv, the first {lost[0]}. Run: dvc repro split"
        )
    ordered = sorted(split, key=lambda row: row.digest)
    given = {row.digest for row in ordered if row.split == "val"}
    known = [row for row in ordered if row.split != "test"]
    if not given and known:
        labels, groups = [row.label for row in known], [row.group for row in known]
        folds = make_folds(labels, groups, params.folds, params.seed, "finetune.folds")
        given = {row.digest for row, fold in zip(known, folds, strict=True) if fold == 0}

    def images(chosen: Sequence[SplitRow]) -> list[Image]:
        return [Image(rows[row.digest], row.label, row.group) for row in chosen]

    parts = Images(
        training=images([row for row in known if row.digest not in given]),
        validation=images([row for row in known if row.digest in given]),
        reported=images([row for row in ordered if row.split == "test"]),
    )
    sizes = [len(parts.training), len(parts.validation), len(parts.reported)]
    if min(sizes) == 0 or len({image.label for image in parts.training}) < 2:
        raise DataError(
            f"data/split.csv: {sizes[0]} training images, {sizes[1]} for inner validation (finetune.folds), {sizes[2]} "
            "reported; expected some of each, and training images of two classes"
        )
    unseen = sorted({image.label for image in parts.validation} - {image.label for image in parts.training})
    if unseen:
        print(
            f"finetune: WARNING: no image of {unseen} is trained on: all but test images are for inner validation",
            flush=True,
        )
    return parts


def numbers_of(images: Sequence[Image], classes: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the number of each image's class, (N,)."""
    return class_numbers([image.label for image in images], classes)
