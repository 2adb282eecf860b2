"""Checks of the finished split: every class can be trained on, and there is something to test on."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from headstart.base.errors import DataError
from headstart.tables.split import SplitRow
from stages.split.draw import drawn_fractions
from stages.split.params import SplitParams

_MOST_SHOWN = 20


def check_split(
    rows: Sequence[SplitRow], undivided: Mapping[str, str], declared: Collection[str], params: SplitParams
) -> None:
    """Raise if models cannot be trained or tested on a split.

    Args:
        rows: Rows of the split table, after all label fixes.
        undivided: What is wrong with each class that the draw could not divide, by label.
        declared: Classes that a label fix declares. They need training images only.
        params: The section `split`.

    Raises:
        DataError: Fewer than two classes have images, a class has no training images, the test set is empty, a class
            could not be divided, or a group lies in several splits. The message names it and says what to do.
    """
    labels = sorted({row.label for row in rows})
    if len(labels) < 2:
        raise DataError(f"found {len(labels)} class(es) with images: {labels}; expected at least 2. Add another class.")
    splits_of, sides = defaultdict(set), defaultdict(set)
    for row in rows:
        splits_of[row.label].add(row.split)
        sides[row.group].add(row.split)
    held_back = drawn_fractions(params)
    needed = {"train", *held_back}
    broken = [
        text
        for label, text in undivided.items()
        if label in splits_of and label not in declared and not needed <= splits_of[label]
    ]
    if broken:
        raise DataError(
            f"classes that cannot be divided: {'; '.join(broken[:_MOST_SHOWN])}; expected at least {len(needed)} "
            f"images or groups of images of each, one for each of train, {', '.join(held_back)}. Add images; or "
            "correct or drop these in split.label_fixes; or declare the class there, then it needs training images "
            "only; or set split.method to hash."
        )
    # By hash, a split `val` is no substitute: fine-tuning trains on `train` alone.
    trained = {"train"} if params.method == "hash" else {"train", "val"}
    absent = [label for label in labels if not splits_of[label] & trained]
    if absent:
        raise DataError(
            f"classes without training images: {absent[:_MOST_SHOWN]}; all their images, or copies of them, are in the "
            "test set. Add images, drop these in split.label_fixes, or change how images are drawn (split.method, "
            "split.seed)."
        )
    if not any("test" in splits for splits in splits_of.values()):
        raise DataError(
            "the test set is empty. Add images; or raise split.test_fraction or change split.seed if it is drawn."
        )
    divided = sorted(group for group, splits in sides.items() if len(splits) > 1)
    if divided:
        raise DataError(
            f"{len(divided)} group(s) are divided, the first {divided[0]!r} between {sorted(sides[divided[0]])}; "
            "expected each in one split. Move its images, or set split.method to stratified, which draws whole groups."
        )
