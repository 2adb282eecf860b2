"""The partition: which images are trained on and which are reported on."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from stages.core.errors import DataError
from stages.core.tables import USABLE, IndexRow, SplitRow
from stages.split.layout import LabelledImage, read_layout
from stages.split.params import SplitParams


def partition(rows: Sequence[IndexRow], params: SplitParams) -> tuple[list[SplitRow], str]:
    """Give every usable image of the index a label and a split.

    With given folders the reported split is `test`, or `val` where there is no `test`; its rows are called `test` then.
    Of copies in several of them the reported one counts, so that nothing reported is trained on.

    Without, `split.test_fraction` of every class is drawn for it, seeded, rounded, at least one image and not all; the
    draw depends on the images' bytes and labels, not on their names or order.

    Args:
        rows: The whole index.
        params: Fraction and seed of the draw.

    Returns:
        The rows in the order of their digests, and one sentence that says where the splits come from.

    Raises:
        DataError: Fewer than two classes, the same bytes under two labels, a split without images, or a class with too
            few images; says which and what would work.
    """
    copies = defaultdict(list)
    for image in read_layout([row for row in rows if row.status in (*USABLE, "duplicate")]):
        copies[image.row.digest].append(image)
    _check_conflicts(list(copies.values()))
    labels = sorted({same[0].label for same in copies.values()})
    if len(labels) < 2:
        raise DataError(f"found {len(labels)} class folder(s) with images: {labels}; expected at least 2")
    images_by_digest = [copies[digest] for digest in sorted(copies)]
    if images_by_digest[0][0].split is not None:
        return _given(images_by_digest)
    return _draw([same[0] for same in images_by_digest], params)


def _check_conflicts(copies: Sequence[Sequence[LabelledImage]]) -> None:
    conflicts = [same for same in copies if len({image.label for image in same}) > 1]
    if conflicts:
        first = ", ".join(f"{image.row.path!r}" for image in conflicts[0])
        raise DataError(
            f"{len(conflicts)} image(s) have the same bytes under different labels, the first: {first} (data/index.csv "
            "lists all as duplicate). Remove the wrong ones."
        )


def _given(copies: Sequence[Sequence[LabelledImage]]) -> tuple[list[SplitRow], str]:
    found = Counter(image.split for same in copies for image in same)
    reported = "test" if found["test"] else "val"
    images = [min(same, key=lambda image: (image.split != reported, image.row.path)) for same in copies]
    trained = {image.label for image in images if image.split != reported}
    absent = sorted({image.label for image in images} - trained)
    if absent:
        raise DataError(
            f"classes without an image to train on: {absent}; each is in `{reported}` only, or its training images "
            f"have the same bytes as images of `{reported}`, which count there. Add some, or remove the class."
        )
    rows = [_row(image, "test" if image.split == reported else str(image.split)) for image in images]
    origin = f"given by the folders; reported on `{reported}`"
    if reported == "val":
        origin += " (there is no test folder)"
    doubled = sum(len({image.split for image in same}) > 1 for same in copies)
    if doubled:
        origin += f"; {doubled} images are in more than one split and count in the reported one, or once"
    return rows, origin


def _draw(images: Sequence[LabelledImage], params: SplitParams) -> tuple[list[SplitRow], str]:
    by_label = defaultdict(list)
    for position, image in enumerate(images):
        by_label[image.label].append(position)
    lonely = sorted(label for label, positions in by_label.items() if len(positions) < 2)
    if lonely:
        raise DataError(
            f"classes with a single image: {lonely}; expected at least 2, one to train on and one to report"
        )
    random = np.random.default_rng(params.seed)
    reported: set[int] = set()
    for _, positions in sorted(by_label.items()):
        count = min(max(round(len(positions) * params.test_fraction), 1), len(positions) - 1)
        reported.update(random.permutation(positions)[:count].tolist())
    rows = [_row(image, "test" if position in reported else "train") for position, image in enumerate(images)]
    return rows, f"drawn: {params.test_fraction:g} of every class for `test`, seed {params.seed}"


def _row(image: LabelledImage, split: str) -> SplitRow:
    return SplitRow(image.row.digest, image.row.path, image.label, split, group=image.row.digest)
