"""The sample: the test images that are shifted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.base.errors import DataError
from headstart.tables.index import USABLE, IndexRow
from headstart.tables.split import SplitRow
from stages.robustness.params import RobustnessParams


@dataclass(frozen=True)
class DrawnImage:
    """A test image.

    Attributes:
        row: Row of the image in the index.
        label: Name of its class.
    """

    row: IndexRow
    label: str


def draw_images(index: Sequence[IndexRow], split: Sequence[SplitRow], params: RobustnessParams) -> list[DrawnImage]:
    """Return the test images, ordered by digest; of more than `num_images`, so many drawn at random.

    Args:
        index: Rows of all files.
        split: Rows of all images that are used.
        params: Number of images and seed.

    Raises:
        DataError: There is no test image, or one is not in the index.
    """
    rows = {row.digest: row for row in index if row.status in USABLE}
    tested = sorted((row for row in split if row.split == "test"), key=lambda row: row.digest)
    if not tested:
        raise DataError("data/split.csv: found no test image; expected some. Run: dvc repro split")
    missing = [row.path for row in tested if row.digest not in rows]
    if missing:
        raise DataError(
            f"data/split.csv: {len(missing)} test images are not in data/index.csv, the first is {missing[0]}. "
            "Run: dvc repro split"
        )
    order = np.random.default_rng(params.seed).permutation(len(tested))
    drawn = [tested[place] for place in np.sort(order[: params.num_images])]
    return [DrawnImage(rows[row.digest], row.label) for row in drawn]
