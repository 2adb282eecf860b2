"""Spelling: labels that differ only in ways that nobody sees are one class; those that differ by case are named."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headstart.base.errors import DataError
from headstart.tables.label_fixes import DROP, LabelFix
from stages.split.layout import Layout

_MOST_NOTES = 5
# The page of `dvc plots show` would run what follows these as script.
_SCRIPT = "(?i)<(/script|script|!--)"


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

    Spaces around a label are no part of it, and composed letters count as the same as decomposed ones (Unicode's
    normal form C): macOS and Linux may write the same name in two ways. Among labels that differ by case the most
    frequent spelling is taken.

    Args:
        layout: The layout, with labels as the folders or the table spell them.
        ignore_case: Whether labels that differ only by case are one class. If not, a note names them.

    Raises:
        DataError: A label would run as script on a page, is only spaces, or has a NUL in it.
    """
    counts = Counter(image.label for image in layout.images)
    for label in sorted(counts):
        if not _normal(label):
            raise DataError(f"the label {label!r} ({counts[label]} images) is only spaces. Rename the class.")
        if "\0" in label:
            raise DataError(f"the label {label!r} ({counts[label]} images) has a NUL in it. Rename the class.")
        if found := re.search(_SCRIPT, label):
            raise DataError(
                f"the label {label!r} ({counts[label]} images) has {found[0]!r} in it, which the page of "
                "`dvc plots show` would run as script. Rename the class."
            )
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        spellings[_key(label, ignore_case=ignore_case)].append(label)
    chosen = {key: _normal(labels[0]) for key, labels in spellings.items()}
    spelled = {label: chosen[key] for key, labels in spellings.items() for label in labels}
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
    return unicodedata.normalize("NFC", label).strip()


def _key(label: str, *, ignore_case: bool) -> str:
    return unicodedata.normalize("NFC", _normal(label).casefold()) if ignore_case else _normal(label)
