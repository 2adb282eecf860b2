"""The draw: images, or groups of images, are divided into splits, at random or by hash."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from headstart.base.errors import DataError
from stages.split.layout import LabelledImage
from stages.split.params import SplitParams


def draw_images(images: Sequence[LabelledImage], params: SplitParams) -> list[str]:
    """Return the split of every image. Each class is divided by the fractions, rounded, with an image in each split.

    The draw depends on the bytes and labels of the images, not on their names.

    Args:
        images: Images in the order of their digests.
        params: The section `split`, which has the fractions and the seed.

    Raises:
        DataError: A class has fewer images than there are splits.
    """
    by_label = defaultdict(list)
    for position, image in enumerate(images):
        by_label[image.label].append(position)
    fractions = _fractions(params)
    least = 1 + len(fractions)
    lonely = {label: len(positions) for label, positions in sorted(by_label.items()) if len(positions) < least}
    if lonely:
        raise DataError(
            f"classes with too few images: {_shown(lonely)}; expected at least {least}, one for each of train, "
            f"{', '.join(fractions)}. Add images, drop the classes in split.label_fixes, or set split.method to hash."
        )
    random = np.random.default_rng(params.seed)
    splits = ["train"] * len(images)
    for _, positions in sorted(by_label.items()):
        shuffled = random.permutation(positions).tolist()
        rest = len(positions)
        for number, (split, fraction) in enumerate(fractions.items()):
            num_after = least - 1 - number  # train and the splits that are still to be drawn
            count = min(max(round(len(positions) * fraction), 1), rest - num_after)
            start = len(positions) - rest
            for position in shuffled[start : start + count]:
                splits[position] = split
            rest -= count
    return splits


def draw_groups(images: Sequence[LabelledImage], params: SplitParams) -> list[str]:
    """Return the split of every image. Groups stay whole, and each class comes near the fractions.

    Groups are shuffled, then considered one by one, the largest first. A group is moved from the training set into a
    split if that brings the classes of its images nearer to their fractions. Every class has an image in every split.

    Args:
        images: Images, each with a group.
        params: The section `split`, which has the fractions and the seed.

    Raises:
        DataError: The groups of a class are too few, or cannot be divided between the splits.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for image in images:
        counts[str(image.group)][image.label] += 1
    totals = Counter(image.label for image in images)
    left = Counter(label for labels in counts.values() for label in labels)  # groups of each class in train
    names = sorted(counts)
    shuffled = [names[number] for number in np.random.default_rng(params.seed).permutation(len(names))]
    order = sorted(shuffled, key=lambda name: -counts[name].total())
    split_of, fractions = dict.fromkeys(names, "train"), _fractions(params)
    for number, (split, fraction) in enumerate(fractions.items()):
        held: Counter[str] = Counter()
        num_after = len(fractions) - number  # train and the splits that are still to be drawn: a group for each

        def may_leave(group: str, num_after: int = num_after) -> bool:
            return split_of[group] == "train" and all(left[label] > num_after for label in counts[group])

        def gain(group: str, fraction: float = fraction, held: Counter[str] = held) -> float:
            """Return a number below 0 if the images of a group bring the classes nearer to their fractions."""
            return sum(
                (abs(held[label] + count - fraction * totals[label]) - abs(held[label] - fraction * totals[label]))
                / totals[label]
                for label, count in sorted(counts[group].items())
            )

        def hold(group: str, split: str = split, held: Counter[str] = held) -> None:
            split_of[group] = split
            held.update(counts[group])
            left.subtract(list(counts[group]))

        for group in order:
            if gain(group) < 0 and may_leave(group):
                hold(group)
        for label in sorted(totals):
            if not held[label]:
                candidates = [group for group in reversed(order) if counts[group][label] and may_leave(group)]
                if not candidates:
                    raise DataError(_too_few_groups(label, split, counts))
                hold(min(candidates, key=gain))  # the group may help other classes too
    return [split_of[str(image.group)] for image in images]


def draw_by_hash(images: Sequence[LabelledImage], params: SplitParams) -> list[str]:
    """Return the split of every image, by a hash of its group or, without groups, of its bytes.

    The split of an image depends on nothing else but the seed and the fractions, so new images never move old ones. The
    fractions hold only on average, and a class may have other fractions.

    Args:
        images: Images, in any order.
        params: The section `split`, which has the fractions and the seed.

    Raises:
        DataError: A class has no image to train on, or the test set is empty.
    """
    splits = []
    for image in images:
        key = image.row.digest if image.group is None else f"group {image.group}"
        place = int.from_bytes(hashlib.sha256(f"{params.seed} {key}".encode()).digest()[:8], "big") / 2**64
        split = "train"
        for name, fraction in _fractions(params).items():
            if place < fraction:
                split = name
                break
            place -= fraction
        splits.append(split)
    trained = {image.label for image, split in zip(images, splits, strict=True) if split == "train"}
    absent = sorted({image.label for image in images} - trained)
    if absent:
        raise DataError(
            f"the hash split leaves these classes without training images: {absent}. Add images, drop the classes in "
            "split.label_fixes, change split.seed, or set split.method to stratified."
        )
    if "test" not in splits:
        raise DataError("the hash split leaves the test set empty. Raise split.test_fraction, or change split.seed.")
    return splits


def _fractions(params: SplitParams) -> dict[str, float]:
    return {"test": params.test_fraction} | ({"val": params.val_fraction} if params.val_fraction else {})


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{label!r} ({count})" for label, count in list(counts.items())[:20])


def _too_few_groups(label: str, split: str, counts: Mapping[str, Counter[str]]) -> str:
    groups = [group for group, labels in counts.items() if labels[label]]
    return (
        f"class {label!r} has images in {len(groups)} group(s), the first {groups[0]!r}: none can become "
        f"{split} without leaving a class without training images. Add groups with images of it, drop its images in "
        "split.label_fixes, or set split.method to hash."
    )
