"""Queues: lists of images to look at, each in an order of its own, the worst first."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from headstart.review.fixes import Fixes, says
from headstart.review.project import Project, ReviewImage
from headstart.tables.head import NearDuplicate
from headstart.tables.label_fixes import DROP

# Longest queue. Nobody looks at more images, and memory stays bounded.
MOST_ROWS = 100_000
RANDOM, UNLABELLED = "random", "unlabelled"
# The random order is another one than that of split.method hash, which goes by the digest itself.
_SALT = b"headstart review"


@dataclass(frozen=True)
class Reason:
    """Why an image is in a queue.

    Attributes:
        suggestion: Name of the class that seems right; None if none does.
        why: One sentence.
    """

    suggestion: str | None
    why: str


@dataclass(frozen=True)
class Queue:
    """Images to look at.

    Attributes:
        name: Name, a word for addresses and for the reason of fixes.
        title: Name for people.
        about: What the images have in common, in a sentence or two.
        images: The images, in order.
        reason: Returns the reason of the image at a position.
    """

    name: str
    title: str
    about: str
    images: Sequence[ReviewImage]
    reason: Callable[[int], Reason] = field(repr=False)

    @cached_property
    def places(self) -> dict[str, int]:
        """The position of each image, by digest."""
        return {image.digest: place for place, image in enumerate(self.images)}


def make_queues(project: Project, fixes: Fixes) -> dict[str, Queue]:
    """Return the queues of a project by name, in the order in which people should take them."""
    queues = (make(project) for make in _QUEUES)
    return {queue.name: queue for queue in (*queues, _random(project, fixes))}


def decided(project: Project, fixes: Fixes) -> Queue:
    """Return the images that have a fix: contradictions first, then the latest."""
    found = [
        (project.images[digest], fix, len(fixes.by_digest[digest]))
        for digest in fixes.by_digest
        if digest in project.images and (fix := fixes.of(digest)) is not None
    ]
    found.sort(key=lambda item: item[0].digest)
    found.sort(key=lambda item: (item[2] > 1, item[1].when), reverse=True)

    def reason(place: int) -> Reason:
        image, fix, num = found[place]
        if num > 1:
            each = ", ".join(f"{one.label} by {one.who or 'somebody'}" for one in fixes.by_digest[image.digest])
            return Reason(None, f"The file of fixes has {num} rows for this image: {each}. Decide which is right.")
        return Reason(None, f"Decided by {fix.who or 'somebody'}{f' on {fix.when[:10]}' if fix.when else ''}.")

    about = "What you and others have decided so far. Here you can change a decision of an earlier session."
    return Queue("decided", "Decided", about, [image for image, *_ in found[:MOST_ROWS]], reason)


def _suspects(project: Project) -> Queue:
    rows = [row for row in project.suspects if row.digest in project.images][:MOST_ROWS]

    def reason(place: int) -> Reason:
        row = rows[place]
        return Reason(
            row.preferred,
            f"The head, trained without this image, says {row.preferred} ({_percent(row.preferred_probability)}); the "
            f"label, {row.label}, gets {_percent(row.probability)}.",
        )

    about = "Training images whose label seems wrong: the head, trained without them, prefers another class."
    return Queue("suspects", "Label suspects", about, [project.images[row.digest] for row in rows], reason)


def _disagree(project: Project) -> Queue:
    head, tuned = project.scores["head"], project.scores.get("finetune")
    found = []
    for digest in tuned.digests if tuned else ():
        (one, p), *_ = head.top(digest, 1) or [("", 0.0)]
        (other, q), *_ = tuned.top(digest, 1) if tuned else [("", 0.0)]
        if one and one != other and digest in project.images:
            found.append((p * q, project.images[digest], one, p, other, q))
    found.sort(key=lambda item: -item[0])

    def reason(place: int) -> Reason:
        _, image, one, p, other, q = found[place]
        suggestion = other if one == image.label else one if other == image.label else None
        return Reason(
            suggestion, f"The head says {one} ({_percent(p)}), the fine-tuned network {other} ({_percent(q)})."
        )

    about = "Test images on which the head and the fine-tuned network disagree, the surest first."
    if tuned is None:
        about += " There are none, because predictions/finetune.csv is missing. Run: dvc repro finetune"
    return Queue("disagree", "Tracks disagree", about, [item[1] for item in found[:MOST_ROWS]], reason)


def _alike(project: Project) -> Queue:
    pairs = [
        pair
        for pair in project.near_duplicates
        if pair.digest in project.images and pair.training_digest in project.images
    ]
    pairs.sort(key=lambda pair: (pair.label == pair.training_label, -pair.similarity))
    first: dict[str, NearDuplicate] = {}
    for pair in pairs:
        first.setdefault(pair.digest, pair)
        if pair.label != pair.training_label:  # either of the two may have the wrong label
            first.setdefault(pair.training_digest, pair)
    digests = list(first)[:MOST_ROWS]

    def reason(place: int) -> Reason:
        pair = first[digests[place]]
        is_test = pair.digest == digests[place]
        kind, path, label = (
            ("training", pair.training_path, pair.training_label) if is_test else ("test", pair.path, pair.label)
        )
        differs = pair.label != pair.training_label
        return Reason(
            label if differs else None,
            f"It looks like the {kind} image {path}, whose label is {label} (similarity {pair.similarity:.3f}).",
        )

    about = "Images that look alike in the test set and in the training set, different labels first."
    return Queue("alike", "Look-alikes", about, [project.images[digest] for digest in digests], reason)


def _doubtful(project: Project) -> Queue:
    scores = project.scores["head"]
    order = np.argsort(scores.probabilities.max(axis=1), kind="stable")
    digests = [digest for digest in (scores.digests[row] for row in order) if _is_trained_on(project, digest)]
    digests = digests[:MOST_ROWS]

    def reason(place: int) -> Reason:
        (one, p), *rest = scores.top(digests[place], 2)
        other = "".join(f" or {name} ({_percent(q)})" for name, q in rest)
        suggestion = one if one != project.images[digests[place]].label else None
        return Reason(suggestion, f"The head is not sure: {one} ({_percent(p)}){other}.")

    about = "Training images, the one first that the head, trained without it, is least sure of."
    return Queue("doubtful", "Doubtful", about, [project.images[digest] for digest in digests], reason)


def _wrong(project: Project) -> Queue:
    head = project.scores["head"]
    found = []
    for digest in sorted(project.tested & project.images.keys()):
        image = project.images[digest]
        best, p = head.top(digest, 1)[0]
        if image.split == "test" and best != image.label:
            found.append((image, best, p, head.of(digest, image.label) or 0.0))
    found.sort(key=lambda item: item[3])

    def reason(place: int) -> Reason:
        image, best, p, own = found[place]
        return Reason(best, f"The head says {best} ({_percent(p)}); the label, {image.label}, gets {_percent(own)}.")

    about = (
        "Test images that the head gets wrong. Look only: whoever corrects labels just where the model errs makes its "
        "accuracy look better than it is. Corrections of test labels are counted."
    )
    return Queue("wrong", "Wrong on the test set", about, [item[0] for item in found[:MOST_ROWS]], reason)


def _unlabelled(project: Project) -> Queue:
    rows = [row for row in project.next_to_label if row.digest in project.images][:MOST_ROWS]

    def reason(place: int) -> Reason:
        row = rows[place]
        return Reason(row.predicted, f"The head says {row.predicted} ({_percent(row.probability)}).")

    about = "Images without a label, the one first whose label should help the head most."
    return Queue(UNLABELLED, "Unlabelled", about, [project.images[row.digest] for row in rows], reason)


def _quarantined(project: Project) -> Queue:
    rows = project.quarantined[:MOST_ROWS]
    images = [ReviewImage(row.digest, row.path, "", "", row.width, row.height) for row in rows]
    about = "Image files that are not used, with the reason. Repair or remove the files; labels do not help."
    return Queue("quarantined", "Quarantined", about, images, lambda place: Reason(None, f"{rows[place].reason}."))


def _random(project: Project, fixes: Fixes) -> Queue:
    """Return all labelled images in an order that has nothing to do with them, dropped ones among them."""

    def is_labelled(image: ReviewImage) -> bool:
        fix = fixes.of(image.digest)
        if fix is not None and says(fix, UNLABELLED):
            return False  # it had no label that could be wrong
        return bool(image.split) or (fix is not None and fix.label == DROP)

    images = sorted(filter(is_labelled, project.images.values()), key=lambda image: _shuffled(image.digest))
    about = (
        "Images drawn at random. The share of wrong labels among them estimates that of the whole data set. Take them "
        "in order, and decide on each that you can."
    )
    why = Reason(None, "Drawn at random.")
    return Queue(RANDOM, "Random", about, images[:MOST_ROWS], lambda _: why)


_QUEUES = (_suspects, _disagree, _alike, _doubtful, _wrong, _unlabelled, _quarantined)


def _shuffled(digest: str) -> bytes:
    return hashlib.blake2b(digest.encode(), key=_SALT, digest_size=16).digest()


def _is_trained_on(project: Project, digest: str) -> bool:
    return digest in project.images and project.images[digest].split in ("train", "val")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %" if 0.005 <= fraction <= 0.995 else f"{100 * fraction:.1f} %"


def num_done(queue: Queue, fixes: Mapping[str, object]) -> int:
    """Return how many images of a queue have a fix.

    Args:
        queue: The queue.
        fixes: Fixes by digest.
    """
    return sum(digest in queue.places for digest in fixes)
