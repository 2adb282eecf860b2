"""Changes: what two revisions depend on that differs, in params, code, data and images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.revisions.revision import Revision
from headstart.tables.split import SplitRow

ABSENT = "(absent)"


@dataclass(frozen=True)
class ParamChange:
    """A param that differs.

    Attributes:
        name: Dotted name.
        before: Value at the first revision; `(absent)` if it has none.
        after: Value at the second revision.
    """

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class ImageChanges:
    """How the labelled images differ.

    Attributes:
        num_added: Number of images that only the second revision has.
        num_removed: Number of images that only the first revision has.
        num_relabelled: Number of images whose label differs.
        num_moved: Number of images that were trained on and are now tested, or the other way round.
        num_leaked: Number of test images of the second revision that the first was trained on. They are not compared.
    """

    num_added: int
    num_removed: int
    num_relabelled: int
    num_moved: int
    num_leaked: int


@dataclass(frozen=True)
class Changes:
    """What differs between two revisions in what their predictions depend on.

    Attributes:
        params: Params, by name.
        sources: Paths of code and data, in order.
        images: Images; None if a table of images is nowhere any more.
        edited: For the name of each revision, the params whose value in params.yaml differs from the value that made
            its results.
    """

    params: Sequence[ParamChange]
    sources: Sequence[str]
    images: ImageChanges | None
    edited: Mapping[str, Sequence[str]]


def find_changes(before: Revision, after: Revision, tracks: Sequence[str]) -> Changes:
    """Find what differs.

    Args:
        before: First revision.
        after: Second revision.
        tracks: Tracks that both have.
    """
    olds, news = ([revision.runs[track] for track in tracks] for revision in (before, after))
    old, new = ({name: value for run in runs for name, value in run.params.items()} for runs in (olds, news))
    names = [name for name in sorted({*old, *new}) if old.get(name, ABSENT) != new.get(name, ABSENT)]
    was, now = ({path: md5 for run in runs for path, md5 in run.sources.items()} for runs in (olds, news))
    return Changes(
        params=[ParamChange(name, old.get(name, ABSENT), new.get(name, ABSENT)) for name in names],
        sources=[path for path in sorted({*was, *now}) if was.get(path) != now.get(path)],
        images=_image_changes(before.images, after.images),
        edited={
            revision.name: sorted({name for run in runs for name in run.edited})
            for revision, runs in ((before, olds), (after, news))
        },
    )


def _image_changes(before: Mapping[str, SplitRow] | None, after: Mapping[str, SplitRow] | None) -> ImageChanges | None:
    if before is None or after is None:
        return None
    both = [(before[digest], row) for digest, row in after.items() if digest in before]
    moved = [(old, new) for old, new in both if (old.split == "test") != (new.split == "test")]
    return ImageChanges(
        num_added=len(after) - len(both),
        num_removed=len(before) - len(both),
        num_relabelled=sum(old.label != new.label for old, new in both),
        num_moved=len(moved),
        num_leaked=sum(new.split == "test" for _, new in moved),
    )
