"""Subsets: which images train, which choose the epoch, and which are the test set."""

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.base.errors import DataError
from headstart.linear.folds import make_folds
from headstart.tables.index import USABLE, IndexRow
from headstart.tables.split import SplitRow
from stages.finetune.params import FinetuneParams


@dataclass(frozen=True)
class LabelledImage:
    """An image with its label.

    Attributes:
        row: Row of the image in the index.
        label: Name of its class.
        group: Its group, as in the split. Groups are never divided.
    """

    row: IndexRow
    label: str
    group: str


@dataclass(frozen=True)
class Subsets:
    """Three subsets of the images, each ordered by digest.

    Attributes:
        training: Images that weights are fitted on.
        validation: Inner validation: images that choose the epoch and calibrate. They are never trained on.
        test: Images that are predicted when everything is chosen.
    """

    training: Sequence[LabelledImage]
    validation: Sequence[LabelledImage]
    test: Sequence[LabelledImage]

    def all_for_training(self) -> "Subsets":
        """Return subsets in which the images of the inner validation are for training too."""
        together = sorted([*self.training, *self.validation], key=lambda image: image.row.digest)
        return Subsets(together, [], self.test)


def make_subsets(
    index: Sequence[IndexRow], split: Sequence[SplitRow], classes: Sequence[str], params: FinetuneParams
) -> Subsets:
    """Join index and split, and take the inner validation from the training rows.

    The inner validation is the split `val` if the data set has one. Otherwise it is one of `finetune.folds` parts of
    the training rows; groups stay whole and classes keep their proportions.

    Args:
        index: Rows of all files.
        split: Rows of all images that are used.
        classes: (C,) names in the order of the logits.
        params: Number of folds and seed.

    Raises:
        DataError: An image of the split is not in the index, a label is not a class, or a subset has no image.
    """
    rows = {row.digest: row for row in index if row.status in USABLE}
    unknown = sorted({row.label for row in split} - set(classes))
    if unknown:
        raise DataError(f"data/split.csv: labels {unknown} are not in data/classes.json. Run: dvc repro split")
    missing = [row.path for row in split if row.digest not in rows]
    if missing:
        raise DataError(
            f"data/split.csv: {len(missing)} images are not in data/index.csv, the first is {missing[0]}. "
            "Run: dvc repro split"
        )
    ordered = sorted(split, key=lambda row: row.digest)
    held_out = {row.digest for row in ordered if row.split == "val"}
    known = [row for row in ordered if row.split != "test"]
    if not held_out and known:
        labels, groups = [row.label for row in known], [row.group for row in known]
        folds = make_folds(labels, groups, params.folds, params.seed, "finetune.folds")
        held_out = {row.digest for row, fold in zip(known, folds, strict=True) if fold == 0}

    def images(chosen: Sequence[SplitRow]) -> list[LabelledImage]:
        return [LabelledImage(rows[row.digest], row.label, row.group) for row in chosen]

    subsets = Subsets(
        training=images([row for row in known if row.digest not in held_out]),
        validation=images([row for row in known if row.digest in held_out]),
        test=images([row for row in ordered if row.split == "test"]),
    )
    sizes = [len(subsets.training), len(subsets.validation), len(subsets.test)]
    if min(sizes) == 0 or len({image.label for image in subsets.training}) < 2:
        raise DataError(
            f"data/split.csv: found {sizes[0]} training images, {sizes[1]} for inner validation (finetune.folds) and "
            f"{sizes[2]} test images; expected some of each, and training images of at least two classes"
        )
    untrained = sorted({image.label for image in subsets.validation} - {image.label for image in subsets.training})
    if untrained:
        print(
            f"finetune: WARNING: no image of {untrained} is trained on, because the inner validation has all of them. "
            "Add images of these classes, in groups of their own (split.group)",
            flush=True,
        )
    return subsets
