"""The results of the stage: the order of the classes, and the counts and warnings that it writes or prints."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from headstart.base.terminal import printable
from headstart.tables.index import STATUSES, IndexRow
from headstart.tables.names import SPLITS
from headstart.tables.split import SplitRow
from stages.split.fixes import Fixed
from stages.split.layout import LABELLED
from stages.split.partition import Partition

_MOST_CLASSES = 20


def order_classes(rows: Sequence[SplitRow], order: str) -> list[str]:
    """Return the names of the classes in the order of the logits.

    Args:
        rows: Rows of the split.
        order: `text` (`10` before `2`), or `natural` (digits are compared as numbers, `2` before `10`).
    """

    def by_numbers(name: str) -> tuple[list[tuple[int, int, str]], str]:
        parts = [part.lstrip("0") or "0" if part.isdecimal() else part for part in re.split("([0-9]+)", name) if part]
        # A longer number is larger, so lengths come first. Names with equal numbers, such as 1 and 01, go by text.
        return [(0, len(part), part) if part.isdecimal() else (1, 0, part) for part in parts], name

    names = {row.label for row in rows}
    return sorted(names, key=by_numbers) if order == "natural" else sorted(names)


def numbers(
    index: Sequence[IndexRow], partition: Partition, classes: Sequence[str], fixed: Fixed
) -> dict[str, int | list[str] | list[int]]:
    """Return the numbers of files by status, of images by split, and of images by class.

    The numbers by class are a list for each split, in the order of the classes.
    """
    states = Counter(row.status for row in index)
    splits = Counter(row.split for row in fixed.rows)
    by_class = Counter((row.split, row.label) for row in fixed.rows)
    assert states.total() == sum(states[status] for status in STATUSES) == len(index), "every file is in one state"
    return {
        "num_files": len(index),
        "num_classes": len(classes),
        **{f"num_{status}": states[status] for status in STATUSES},
        **{f"num_{split}": splits[split] for split in SPLITS},
        "num_across_splits": partition.num_across_splits,
        "num_conflicts": fixed.num_conflicts,
        "num_relabelled": len(fixed.relabelled),
        "num_dropped": fixed.num_dropped,
        "num_unlabelled": len(fixed.pool),
        "num_labelled_by_fixes": fixed.num_labelled,
        "classes": list(classes),
        **{split: [by_class[split, name] for name in classes] for split in SPLITS},
    }


def describe(
    index: Sequence[IndexRow], partition: Partition, classes: Sequence[str], fixed: Fixed, notes: Sequence[str]
) -> str:
    """Return the lines that the stage prints: where the splits come from, counts, and warnings.

    Args:
        index: The index.
        partition: The split of every image.
        classes: Names of the classes, in the order of the logits.
        fixed: The split with corrected labels.
        notes: Warnings about the layout of the data set.
    """
    splits = Counter(row.split for row in fixed.rows)
    counts = ", ".join(f"{splits[split]} {split}" for split in SPLITS if splits[split])
    lines = [f"{partition.origin}: {counts}; {len(classes)} classes"]
    if len(fixed.relabelled) or fixed.num_dropped:
        lines.append(f"label fixes: {len(fixed.relabelled)} relabelled, {fixed.num_dropped} dropped")
    if fixed.pool or fixed.num_labelled:
        lines.append(f"images without a label: {len(fixed.pool)}; label fixes gave one to {fixed.num_labelled} others")
    lines += _table(fixed.rows, classes)
    lines += _groups(fixed.rows)
    warnings = list(notes)
    if fixed.num_conflicts:
        warnings.append(f"{fixed.num_conflicts} images are left out: their copies contradict each other")
    if fixed.held_back:
        warnings.append(
            f"{len(fixed.held_back)} images without a label are left out, because the test set has their group or "
            f"folder, the first {fixed.held_back[0]!r}"
        )
    if fixed.unused:
        warnings.append(f"{len(fixed.unused)} of them have a label fix without effect, the first {fixed.unused[0]!r}")
    untested = sorted(set(classes) - {row.label for row in fixed.rows if row.split == "test"})
    if untested:
        warnings.append(f"classes without a test image, so their scores stay unknown: {untested[:10]}")
    lost = {str(PurePosixPath(row.path).parent) for row in index}
    lost -= {str(PurePosixPath(row.path).parent) for row in index if row.status in LABELLED} | {"."}
    if lost:
        warnings.append(f"folders with files but no usable image (data/index.csv says why): {sorted(lost)[:10]}")
    return "\n".join([*lines, *(f"split: WARNING: {warning}" for warning in warnings)])


def _groups(rows: Sequence[SplitRow]) -> list[str]:
    sizes = [size for size in Counter(row.group for row in rows).values() if size > 1]
    return [f"groups of two or more images: {len(sizes)}; the largest has {max(sizes)}"] if sizes else []


def _table(rows: Sequence[SplitRow], classes: Sequence[str]) -> list[str]:
    if len(classes) > _MOST_CLASSES:
        return []
    by_class = Counter((row.split, row.label) for row in rows)
    used = [split for split in SPLITS if any(row.split == split for row in rows)]
    lines = ["  " + "".join(f"{split:>9}" for split in used)]
    for name in classes:
        numbers = "".join(f"{by_class[split, name]:>9}" for split in used)
        lines.append(f"  {numbers}  {printable(name)}")
    return lines
