"""The partition: which images are trained on and which are reported on."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from stages.core.errors import DataError
from stages.core.tables import USABLE, IndexRow, SplitRow
from stages.split.layout import LabelledImage, read_layout
from stages.split.params import SplitParams


def partition(rows: Sequence[IndexRow], params: SplitParams) -> tuple[list[SplitRow], str]:
    """Give every usable image of the index a label and a split.

    With given folders the reported split is `test`, or `val` where there is no `test`; its rows are called `test` then.
    Without, `split.test_fraction` of the images is drawn for it, stratified by class and seeded; the draw depends on
    the images' bytes and labels, not on their names or order.

    Args:
        rows: The whole index.
        params: Fraction and seed of the draw.

    Returns:
        The rows in the order of their digests, and one sentence that says where the splits come from.

    Raises:
        DataError: Fewer than two classes, the same bytes under two labels, a split without images, or classes with too
            few images for the draw; says which and what would work.
    """
    images = read_layout([row for row in rows if row.status in (*USABLE, "duplicate")])
    _check_conflicts(images)
    images = sorted((image for image in images if image.row.status in USABLE), key=lambda image: image.row.digest)
    labels = sorted({image.label for image in images})
    if len(labels) < 2:
        raise DataError(f"found {len(labels)} class folder(s) with images: {labels}; expected at least 2")
    splits, origin = _given(images) if images[0].split is not None else _draw(images, params)
    return [
        SplitRow(image.row.digest, image.row.path, image.label, split, group=image.row.digest)
        for image, split in zip(images, splits, strict=True)
    ], origin


def _check_conflicts(images: Sequence[LabelledImage]) -> None:
    by_digest = defaultdict(list)
    for image in images:
        by_digest[image.row.digest].append(image)
    conflicts = [same for same in by_digest.values() if len({image.label for image in same}) > 1]
    if conflicts:
        first = ", ".join(f"{image.row.path!r}" for image in conflicts[0])
        raise DataError(
            f"{len(conflicts)} image(s) have the same bytes under different labels, the first: {first}. "
            "Remove the wrong ones."
        )


def _given(images: Sequence[LabelledImage]) -> tuple[list[str], str]:
    found = Counter(image.split for image in images)
    reported = "test" if found["test"] else "val"
    if not found["train"] or not found[reported]:
        raise DataError(f"the split folders hold {dict(found)} images; expected some in train and in test (or val)")
    splits = ["test" if image.split == reported else str(image.split) for image in images]
    absent = sorted({image.label for image in images} - {image.label for image in images if image.split != reported})
    if absent:
        raise DataError(f"classes with images in {reported} only: {absent}; expected some to train on, or none at all")
    why = "" if reported == "test" else " (there is no test folder)"
    return splits, f"given by the folders; reported on `{reported}`{why}"


def _draw(images: Sequence[LabelledImage], params: SplitParams) -> tuple[list[str], str]:
    from sklearn.model_selection import train_test_split

    counts = Counter(image.label for image in images)
    lonely = sorted(label for label, count in counts.items() if count < 2)
    if lonely:
        raise DataError(
            f"classes with a single image: {lonely}; expected at least 2, one to train on and one to report"
        )
    num_test = round(len(images) * params.test_fraction)
    if not len(counts) <= num_test <= len(images) - len(counts):
        raise DataError(
            f"split.test_fraction {params.test_fraction} of {len(images)} images is {num_test}, for {len(counts)} "
            f"classes; expected between {len(counts) / len(images):.4f} and {1 - len(counts) / len(images):.4f}"
        )
    _, test = train_test_split(
        range(len(images)),
        test_size=num_test,
        random_state=params.seed,
        stratify=[image.label for image in images],
    )
    chosen = set(test)
    splits = ["test" if position in chosen else "train" for position in range(len(images))]
    return splits, f"drawn: {params.test_fraction:g} of every class for `test`, seed {params.seed}"
