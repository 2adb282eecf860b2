"""The draw: images, or groups of images, are divided into splits, at random or by hash."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.split.layout import LabelledImage
from stages.split.params import SplitParams


@dataclass(frozen=True)
class Drawn:
    """The result of a draw.

    Attributes:
        splits: (N,) split of every image.
        undivided: What is wrong with each class that cannot have an image in every split, by label. Label fixes may
            still mend it, so it is no error yet.
    """

    splits: Sequence[str]
    undivided: Mapping[str, str]


def draw_images(images: Sequence[LabelledImage], params: SplitParams) -> Drawn:
    """Return the split of every image. Each class is divided by the fractions, rounded, with an image in each split.

    The draw depends on the bytes and labels of the images, not on their names. A class that has fewer images than there
    are splits is not divided: all its images are in the training set.

    Args:
        images: Images in the order of their digests.
        params: The section `split`, which has the fractions and the seed.
    """
    by_label = defaultdict(list)
    for position, image in enumerate(images):
        by_label[image.label].append(position)
    fractions = drawn_fractions(params)
    least = 1 + len(fractions)
    undivided = {
        label: f"{label!r} has {len(positions)} image(s)"
        for label, positions in sorted(by_label.items())
        if len(positions) < least
    }
    random = np.random.default_rng(params.seed)
    splits = ["train"] * len(images)
    for label, positions in sorted(by_label.items()):
        if label in undivided:
            continue
        shuffled = random.permutation(positions).tolist()
        rest = len(positions)
        for number, (split, fraction) in enumerate(fractions.items()):
            num_after = least - 1 - number  # train and the splits that are still to be drawn
            count = min(max(round(len(positions) * fraction), 1), rest - num_after)
            start = len(positions) - rest
            for position in shuffled[start : start + count]:
                splits[position] = split
            rest -= count
    return Drawn(splits, undivided)


def draw_groups(images: Sequence[LabelledImage], params: SplitParams) -> Drawn:
    """Return the split of every image. Groups stay whole, and each class comes near the fractions.

    Groups are shuffled, then considered one by one, the largest first. A group is moved from the training set into a
    split if that brings the classes of its images nearer to their fractions. Every class has an image in every split,
    unless its groups are too few or hold other classes too.

    Args:
        images: Images, each with a group.
        params: The section `split`, which has the fractions and the seed.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for image in images:
        counts[str(image.group)][image.label] += 1
    totals = Counter(image.label for image in images)
    left = Counter(label for labels in counts.values() for label in labels)  # groups of each class in train
    names = sorted(counts)
    shuffled = [names[number] for number in np.random.default_rng(params.seed).permutation(len(names))]
    order = sorted(shuffled, key=lambda name: -counts[name].total())
    split_of, fractions = dict.fromkeys(names, "train"), drawn_fractions(params)
    undivided: dict[str, str] = {}
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
                if candidates:
                    hold(min(candidates, key=gain))  # the group may help other classes too
                else:
                    groups = [group for group in names if counts[group][label]]
                    undivided[label] = f"{label!r} has images in {len(groups)} group(s), the first {groups[0]!r}"
    return Drawn([split_of[str(image.group)] for image in images], undivided)


def split_by_hash(image: LabelledImage, params: SplitParams) -> str:
    """Return the split of an image, by a hash of its group or, without groups, of its bytes.

    It depends on nothing else but the seed and the fractions, so new images never move old ones. The fractions hold
    only on average, and a class may have other fractions.
    """
    key = image.row.digest if image.group is None else f"group {image.group}"
    place = int.from_bytes(hashlib.sha256(f"{params.seed} {key}".encode()).digest()[:8], "big") / 2**64
    for name, fraction in drawn_fractions(params).items():
        if place < fraction:
            return name
        place -= fraction
    return "train"


def drawn_fractions(params: SplitParams) -> dict[str, float]:
    """Return the fraction of each split that is held back, by name."""
    return {"test": params.test_fraction} | ({"val": params.val_fraction} if params.val_fraction else {})
