"""Spelling of labels: differences that nobody sees make no second class, and others are named."""

import json
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.errors import DataError
from headstart.tables.index import IndexRow
from headstart.tables.label_fixes import LabelFix
from headstart.tables.split import SplitRow
from stages.split import results
from stages.split.fixes import apply_fixes
from stages.split.layout import LabelledImage, Layout
from stages.split.partition import Partition
from stages.split.spelling import Spelling, spell

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD"))


class TextOfScript(HTMLParser):
    """The text of a page that is one script."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        """Keep a part of the text."""
        self.parts.append(data)


def spelled(*labels: str, ignore_case: bool = False) -> Spelling:
    """Return the spelling of a layout with one image for each label."""
    rows = [IndexRow(f"{n}.png", f"{n:064x}", "PNG", 8, 8, "ok", "") for n in range(len(labels))]
    images = [LabelledImage(row, label, None, None) for row, label in zip(rows, labels, strict=True)]
    return spell(Layout(images, "table", ["first"]), ignore_case=ignore_case)


def labels_of(spelling: Spelling) -> list[str]:
    """Return the label of each image."""
    return [image.label for image in spelling.layout.images]


@pytest.mark.parametrize("odd", ["bee ", " bee", "bee\t", "bee\u00a0", "b\u200bee", "\ufeffbee", "bee\u200e \u200d"])
def test_what_nobody_sees_in_a_label_does_not_count(odd: str) -> None:
    """A label with spaces around it or invisible characters is the label without them; a note says so."""
    spelling = spelled("bee", odd, odd)

    assert labels_of(spelling) == ["bee", "bee", "bee"]
    assert spelling.layout.notes == ["first", f"2 images: the label {odd!r} is read as 'bee'"]


def test_doubled_spaces_inside_a_label_do_not_count() -> None:
    """Several spaces in a row, of any kind, are one space, and a note shows both spellings."""
    spelling = spelled("honey bee", "honey  bee", "honey\u00a0bee")

    assert labels_of(spelling) == ["honey bee"] * 3
    assert "1 images: the label 'honey  bee' is read as 'honey bee'" in spelling.layout.notes


@pytest.mark.parametrize("name", ["\u0646\u0645\u06cc\u200c\u062f\u0627\u0646\u0645", "\U0001f469\u200d\U0001f52c"])
def test_joiners_stay_in_the_name_of_a_class(name: str) -> None:
    """Where a joiner changes how letters look, the most frequent spelling keeps it, and the other one is the same."""
    bare = name.replace("\u200c", "").replace("\u200d", "")

    assert labels_of(spelled(name, name, bare)) == [name] * 3
    assert labels_of(spelled(name, bare, bare)) == [bare] * 3


def test_spellings_are_counted_without_spaces() -> None:
    """If case is ignored, the most frequent spelling is found after spaces are stripped."""
    assert set(labels_of(spelled("bee", "bee", "Bee ", " Bee", "Bee", ignore_case=True))) == {"Bee"}


def test_composed_and_decomposed_letters_are_the_same() -> None:
    """The same name from macOS and from Linux is one class."""
    spelling = spelled(DECOMPOSED, COMPOSED, DECOMPOSED)

    assert labels_of(spelling) == [COMPOSED] * 3
    assert len(spelling.layout.notes) == 2


def test_labels_that_differ_by_case_are_named() -> None:
    """Labels that differ by case are two classes, and a warning names both and the setting that merges them."""
    spelling = spelled("Bee", "bee", "bee", "ant")

    assert Counter(labels_of(spelling)) == {"Bee": 1, "bee": 2, "ant": 1}
    assert spelling.layout.notes[1:] == [
        "'Bee' (1 images) and 'bee' (2 images) differ only by case and are 2 classes. To make them one, set "
        "split.ignore_case to true"
    ]


def test_case_is_ignored_if_asked() -> None:
    """With `split.ignore_case` they are one class, in the most frequent spelling, and a note says so."""
    spelling = spelled("Bee", "bee", "bee ", "BEE", "STRASSE", "Straße", "Straße", ignore_case=True)

    assert labels_of(spelling) == ["bee"] * 4 + ["Straße"] * 3 or labels_of(spelling) == ["BEE"] * 4 + ["Straße"] * 3
    assert len(set(labels_of(spelling))) == 2
    assert any("is read as" in note for note in spelling.layout.notes)


def test_fixes_are_spelled_alike() -> None:
    """A fix finds its class with other spaces, letters or case; `drop` and unknown names stay."""
    spelling = spelled("bee", COMPOSED, "drop it")
    fixes = [LabelFix("", "a", label) for label in ("bee ", DECOMPOSED, "drop", "wasp", "BEE")]

    assert [fix.label for fix in spelling.fixes(fixes)] == ["bee", COMPOSED, "drop", "wasp", "BEE"]
    folding = spelled("bee", COMPOSED, ignore_case=True)
    assert [fix.label for fix in folding.fixes([LabelFix("", "a", "BEE"), LabelFix("", "a", "drop")])] == [
        "bee",
        "drop",
    ]


def test_many_odd_labels_are_counted() -> None:
    """Beyond a few, labels are counted, not listed."""
    spelling = spelled(*(f"{n} " for n in range(9)))

    assert len(spelling.layout.notes) == 7
    assert spelling.layout.notes[-1] == "and 4 more labels of this kind"


@pytest.mark.parametrize("label", ["</script><script>alert(1)</script>", "a<!--b", "x<SCRIPT y"])
def test_labels_that_run_as_script_are_refused(label: str) -> None:
    """DVC's page of plots puts labels into a script as they are, so a label that ends or hides it is an error."""
    with pytest.raises(DataError, match=r"1 images.*dvc plots show.*Rename the class"):
        spelled("bee", label)


def test_a_label_of_spaces_is_refused() -> None:
    """A folder whose name is only spaces is no class without a name."""
    with pytest.raises(DataError, match=r"the label '  ' \(1 images\) is only spaces"):
        spelled("bee", "  ")
    with pytest.raises(DataError, match=r"the label '\\u200d' \(1 images\) is only spaces or invisible"):
        spelled("bee", "\u200d")


def test_a_class_called_drop_in_other_letters_is_refused() -> None:
    """If case is ignored, a fix `drop` could mean the class `Drop`, so it is an error."""
    fixes = [LabelFix("", "a", "drop")]
    assert spelled("Drop", "bee").fixes(fixes) == fixes
    with pytest.raises(DataError, match=r"split\.label_fixes: 'a': a class is called 'Drop' too"):
        spelled("Drop", "bee", ignore_case=True).fixes(fixes)


def test_a_label_with_a_nul_is_refused() -> None:
    """NUL separates texts in bundles, so no label may have one."""
    with pytest.raises(DataError, match=r"'bee.x00' \(1 images\) has a NUL in it"):
        spelled("bee\0")


@given(st.text(alphabet="</script!->SCRIPT \"'&a", min_size=1))
def test_allowed_labels_stay_inside_a_script(label: str) -> None:
    """A label that is not refused is still the same when a page with it inside a script is parsed."""
    try:
        (name,) = labels_of(spelled(label))
    except DataError:
        return
    page = TextOfScript()
    page.feed(f"<script>{json.dumps(name)}</script>")
    page.close()

    assert json.loads("".join(page.parts)) == name


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8), st.booleans())
def test_a_second_pass_changes_nothing(labels: list[str], ignore_case: bool) -> None:
    """Spelled labels stay as they are, and equal labels stay equal."""
    labels = [label.replace("\0", "0") if label.strip() else "x" for label in labels]
    once = labels_of(spelled(*labels, ignore_case=ignore_case))
    twice = labels_of(spelled(*once, ignore_case=ignore_case))

    assert once == twice
    for one, other in zip(labels, once, strict=True):
        assert [new for old, new in zip(labels, once, strict=True) if old == one] == [other] * labels.count(one)


def test_a_label_cannot_command_the_terminal() -> None:
    """In the printed table of classes, ESC and line ends of a label are escaped."""
    rows = [SplitRow(f"{n:064x}", f"{n}.png", label, "train", "") for n, label in enumerate(["a\x1b[2J", "b\nc"])]
    parted = Partition(rows, [], [], {}, "drawn", num_across_splits=0)
    fixed = apply_fixes(parted, [], [], Path("fixes.csv"), "fail")
    text = results.describe([], parted, ["a\x1b[2J", "b\nc"], fixed, [])

    assert "\x1b" not in text
    assert text.count("\n") == 5
    assert r"a\x1b[2J" in text
