"""Spelling: labels that differ only in ways that nobody sees are one class; those that differ by case are named."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headstart.base.errors import DataError
from headstart.tables.classes import SCRIPT
from headstart.tables.label_fixes import DROP, LabelFix
from stages.split.layout import Layout

_MOST_NOTES = 5
# Characters without width, such as the zero-width space and the marks of the direction of writing.
_INVISIBLE = "[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
# Two of them, which join or part letters of some scripts and make up some emoji, stay in the name that is shown.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True)
class Spelling:
    """How each label is spelled.

    Attributes:
        layout: The layout, with one spelling for each class.
        chosen: The spelling of a class, by its key.
        ignore_case: Whether labels that differ only by case are one class.
    """

    layout: Layout
    chosen: Mapping[str, str]
    ignore_case: bool

    def fixes(self, fixes: Sequence[LabelFix]) -> list[LabelFix]:
        """Return label fixes with the same spelling.

        Raises:
            DataError: A fix says `drop`, and a class has that name in other letters.
        """
        named = self.chosen.get(DROP) if self.ignore_case else None
        for fix in fixes if named is not None else ():
            if fix.label == DROP:
                raise DataError(
                    f"split.label_fixes: {fix.path or fix.digest!r}: a class is called {named!r} too. Give the class "
                    "another name."
                )
        return [replace(fix, label=self._spelled(fix.label)) for fix in fixes]

    def _spelled(self, label: str) -> str:
        if label == DROP:
            return label
        return self.chosen.get(_key(label, ignore_case=self.ignore_case), label)


def spell(layout: Layout, *, ignore_case: bool) -> Spelling:
    """Give each class one spelling.

    Spaces around a label are no part of it, several spaces inside it count as one, and invisible characters do not
    count. Composed letters count as the same as decomposed ones (Unicode's normal form C): macOS and Linux may write
    the same name in two ways. Among spellings that still differ the most frequent one is taken.

    Args:
        layout: The layout, with labels as the folders or the table spell them.
        ignore_case: Whether labels that differ only by case are one class. If not, a note names them.

    Raises:
        DataError: A label would run as script on a page, is only spaces, or has a NUL in it.
    """
    counts = Counter(image.label for image in layout.images)
    for label in sorted(counts):
        if not _key(label, ignore_case=False):
            raise DataError(
                f"the label {label!r} ({counts[label]} images) is only spaces or invisible. Rename the class."
            )
        if "\0" in label:
            raise DataError(f"the label {label!r} ({counts[label]} images) has a NUL in it. Rename the class.")
        if found := re.search(SCRIPT, label):
            raise DataError(
                f"the label {label!r} ({counts[label]} images) has {found[0]!r} in it, which the page of "
                "`dvc plots show` would run as script. Rename the class."
            )
    normal = Counter(_normal(image.label) for image in layout.images)
    chosen: dict[str, str] = {}
    for name in sorted(normal, key=lambda name: (-normal[name], name)):
        chosen.setdefault(_key(name, ignore_case=ignore_case), name)
    spelled = {label: chosen[_key(label, ignore_case=ignore_case)] for label in counts}
    images = [replace(image, label=spelled[image.label]) for image in layout.images]
    notes = [*layout.notes, *_merged(spelled, counts)]
    if not ignore_case:
        notes += _apart_by_case(Counter(image.label for image in images))
    return Spelling(replace(layout, images=images, notes=notes), chosen, ignore_case)


def _merged(spelled: Mapping[str, str], counts: Mapping[str, int]) -> list[str]:
    changed = sorted(label for label, name in spelled.items() if label != name)
    return _shortened(
        [f"{counts[label]} images: the label {label!r} is read as {spelled[label]!r}" for label in changed]
    )


def _apart_by_case(counts: Mapping[str, int]) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        alike[_key(label, ignore_case=True)].append(label)
    return _shortened(
        [
            f"{' and '.join(f'{label!r} ({counts[label]} images)' for label in labels)} differ only by case and are "
            f"{len(labels)} classes. To make them one, set split.ignore_case to true"
            for labels in alike.values()
            if len(labels) > 1
        ]
    )


def _shortened(notes: Sequence[str]) -> list[str]:
    rest = [f"and {len(notes) - _MOST_NOTES} more labels of this kind"] if len(notes) > _MOST_NOTES else []
    return [*notes[:_MOST_NOTES], *rest]


def _normal(label: str) -> str:
    """Return a label as it is shown, without spaces and invisible characters that nobody misses."""
    visible = re.sub(f"(?![{_JOINERS}]){_INVISIBLE}", "", label)
    words = (word.strip(_JOINERS) for word in unicodedata.normalize("NFC", visible).split())
    return " ".join(filter(None, words))


def _key(label: str, *, ignore_case: bool) -> str:
    """Return what is equal for all spellings of a class."""
    visible = _normal(re.sub(_INVISIBLE, "", label))
    return _normal(visible.casefold()) if ignore_case else visible
