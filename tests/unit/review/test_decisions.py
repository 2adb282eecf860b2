"""Decisions: each is in the file at once, none is lost, and nobody's is overwritten unseen."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.base.errors import DataError
from headstart.review import decisions as module
from headstart.review.decisions import Decisions, Wish
from headstart.review.fixes import fix_id, reason, says
from headstart.tables.label_fixes import LabelFix, read_label_fixes, write_label_fixes
from tests.support.source import ROOT

DIGESTS = [f"{number:064x}" for number in range(9)]
INDEX = {f"{number}.png": digest for number, digest in enumerate(DIGESTS)}


def decisions_in(folder: Path, who: str = "Ann") -> Decisions:
    """Return the decisions of a person in a folder."""
    return Decisions(folder / "fixes" / "photos.csv", folder / ".fixes.lock", who, INDEX)


def wish(number: int, label: str, seen: str | None = None, why: str = "suspects") -> Wish:
    """Return a wish for one image."""
    return Wish(DIGESTS[number], f"{number}.png", label, why, seen)


def labels(decisions: Decisions) -> dict[str, str]:
    """Return the labels in the file, by path."""
    return {fix.path: fix.label for fix in read_label_fixes(decisions.path)}


def test_a_decision_is_in_the_file_at_once(tmp_path: Path) -> None:
    """The row has digest, path, label, person, time in UTC and reason; the folder of the fixes has no other file."""
    decisions = decisions_in(tmp_path)
    outcome = decisions.decide([wish(3, "ants")])
    (fix,) = read_label_fixes(decisions.path)

    assert (fix.digest, fix.path, fix.label, fix.who, fix.why) == (DIGESTS[3], "3.png", "ants", "Ann", "suspects")
    assert fix.when.endswith("Z")
    assert len(fix.when) == len("2026-01-31T12:00:00Z")
    assert list(outcome.digests) == [DIGESTS[3]]
    assert [path.name for path in decisions.path.parent.iterdir()] == ["photos.csv"]


def test_the_decision_of_another_person_is_a_conflict(tmp_path: Path) -> None:
    """What somebody else decided unseen stays, and is named; with force, or once it was seen, it is replaced."""
    ann, bob = decisions_in(tmp_path), decisions_in(tmp_path, "Bob")
    bob.decide([wish(1, "bees"), wish(2, "bees")])
    before = ann.path.read_bytes()
    outcome = ann.decide([wish(1, "ants")])

    assert ann.path.read_bytes() == before
    assert not outcome.digests
    assert {digest: (fix.label, fix.who) for digest, fix in outcome.conflicts.items() if fix} == {
        DIGESTS[1]: ("bees", "Bob")
    }
    assert not ann.decide([wish(1, "ants", seen="bees")]).conflicts
    assert not ann.decide([wish(2, "ants")], force=True).conflicts
    assert labels(ann) == {"1.png": "ants", "2.png": "ants"}


def test_a_removed_fix_is_a_conflict_too(tmp_path: Path) -> None:
    """Somebody who saw a decision that is gone is told so."""
    outcome = decisions_in(tmp_path).decide([wish(1, "ants", seen="bees")])

    assert outcome.conflicts == {DIGESTS[1]: None}


def test_those_who_agree_do_not_conflict(tmp_path: Path) -> None:
    """The first of two equal decisions stays, with its person and its reason."""
    decisions_in(tmp_path, "Bob").decide([wish(1, "bees")])
    outcome = decisions_in(tmp_path).decide([wish(1, "bees")])

    assert list(outcome.digests) == [DIGESTS[1]]
    assert not outcome.conflicts
    assert [fix.who for fix in read_label_fixes(tmp_path / "fixes" / "photos.csv")] == ["Bob"]


def test_undo_gives_back_what_was_there(tmp_path: Path) -> None:
    """Decisions are undone one after the other, down to no fix; what others did meanwhile is a conflict."""
    ann, bob = decisions_in(tmp_path), decisions_in(tmp_path, "Bob")
    first = list(ann.decide([wish(1, "ants")]).ids.values())
    last = list(ann.decide([wish(1, "bees", seen="ants"), wish(2, "bees")]).ids.values())

    ann.undo(last)
    assert labels(ann) == {"1.png": "ants"}
    bob.decide([wish(1, "drop", seen="ants")])
    assert list(ann.undo(first).conflicts) == [DIGESTS[1]]
    assert list(ann.undo(first, {DIGESTS[1]: "bees"}).conflicts) == [DIGESTS[1]]
    assert labels(ann) == {"1.png": "drop"}
    assert not ann.undo(first, {DIGESTS[1]: "drop"}).conflicts
    assert labels(ann) == {}


def test_what_somebody_else_has_taken_back_is_undone(tmp_path: Path) -> None:
    """If the image is again as it was before, there is nothing to ask."""
    ann, bob = decisions_in(tmp_path), decisions_in(tmp_path, "Bob")
    ids = list(ann.decide([wish(1, "ants")]).ids.values())
    bob.undo(ids)
    outcome = ann.undo(ids)

    assert (list(outcome.digests), outcome.conflicts, labels(ann)) == ([DIGESTS[1]], {}, {})


def test_undo_leaves_a_second_row_of_the_image_alone(tmp_path: Path) -> None:
    """A merge may bring the fix of another person beside that which is taken back. It stays."""
    ann = decisions_in(tmp_path)
    ids = list(ann.decide([wish(1, "ants")]).ids.values())
    write_label_fixes(ann.path, [*read_label_fixes(ann.path), LabelFix(DIGESTS[1], "1.png", "bees", "Bob")])
    ann.undo(ids)

    assert labels(ann) == {"1.png": "bees"}


def test_who_agrees_has_nothing_to_undo(tmp_path: Path) -> None:
    """What somebody had decided already, maybe in another tab, gives no id, so no undo takes it back."""
    ann = decisions_in(tmp_path)
    ann.decide([wish(1, "ants")])

    assert ann.decide([wish(1, "ants"), wish(2, "ants")]).ids.keys() == {DIGESTS[2]}


def test_undo_brings_a_contradiction_back(tmp_path: Path) -> None:
    """Of an image with two fixes, as a merge may leave it, both come back."""
    ann = decisions_in(tmp_path)
    both = [LabelFix(DIGESTS[1], "1.png", label, who) for label, who in (("ants", "Bob"), ("bees", "Eve"))]
    write_label_fixes(ann.path, both)
    outcome = ann.decide([wish(1, "drop", seen="ants")])
    assert labels(ann) == {"1.png": "drop"}
    ann.undo(list(outcome.ids.values()))

    assert read_label_fixes(ann.path) == both


def test_undo_removes_a_fix_of_an_earlier_session(tmp_path: Path) -> None:
    """After a restart nobody knows what a fix replaced, so it goes; an id that nobody has is passed over."""
    decisions_in(tmp_path).decide([wish(1, "ants"), wish(2, "ants")])
    later = decisions_in(tmp_path)
    one = next(fix for fix in later.fixes().rows if fix.path == "1.png")
    later.undo([fix_id(one), "0" * 16])

    assert labels(later) == {"2.png": "ants"}


def test_several_decisions_of_an_image_are_undone_together(tmp_path: Path) -> None:
    """The ids of two decisions on one image take it back to before the first."""
    decisions = decisions_in(tmp_path)
    first = decisions.decide([wish(1, "ants")])
    last = decisions.decide([wish(1, "bees", seen="ants")])

    assert not decisions.undo([*first.ids.values(), *last.ids.values()]).conflicts
    assert labels(decisions) == {}


def test_an_undo_that_cannot_be_written_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a full disk the file is as it was, and the next undo still knows what was there before."""
    decisions = decisions_in(tmp_path)
    decisions.decide([wish(1, "ants")])
    ids = list(decisions.decide([wish(1, "bees", seen="ants")]).ids.values())
    with monkeypatch.context() as broken:
        broken.setattr(module, "write_label_fixes", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            decisions.undo(ids)
    assert labels(decisions) == {"1.png": "bees"}
    decisions.undo(ids)

    assert labels(decisions) == {"1.png": "ants"}


STEPS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["ants", "bees", "drop"])), max_size=8)


@given(STEPS)
def test_undoing_everything_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    """Whatever a person decided, as many undos as decisions bring the first state back."""
    decisions = decisions_in(tmp_path_factory.mktemp("fixes"))
    write_label_fixes(decisions.path, [LabelFix(DIGESTS[0], "0.png", "ants", "Bob", "", "by hand")])
    before = decisions.path.read_bytes()
    ids = [decisions.decide([wish(number, label)], force=True).ids.values() for number, label in steps]
    for each in reversed(ids):
        assert not decisions.undo(list(each)).conflicts

    assert decisions.path.read_bytes() == before


def test_rows_of_people_stay(tmp_path: Path) -> None:
    """Fixes of unknown images, rows with a path alone and declared classes are kept; only the decided image's go."""
    decisions = decisions_in(tmp_path)
    rows = [
        LabelFix("", "", "wasps", "Bob", "", "new class"),
        LabelFix("", "1.png", "bees", "Bob", "", "by hand"),
        LabelFix("", "gone.png", "bees"),
        LabelFix("f" * 64, "other.png", "drop"),
    ]
    write_label_fixes(decisions.path, rows)
    assert decisions.fixes().declared == ["wasps"]
    decisions.decide([wish(1, "ants", seen="bees")])

    assert labels(decisions) == {"": "wasps", "gone.png": "bees", "other.png": "drop", "1.png": "ants"}


def test_two_rows_for_an_image_are_settled_by_the_next_decision(tmp_path: Path) -> None:
    """After a merge of git an image may have two rows; whoever decides, even as one of them says, leaves one."""
    decisions = decisions_in(tmp_path)
    rows = [LabelFix(DIGESTS[1], "1.png", label, "x", f"2026-01-0{day}T00:00:00Z") for day, label in enumerate("ab", 1)]
    write_label_fixes(decisions.path, rows)
    decisions.decide([wish(1, "b", seen="b")])

    assert labels(decisions) == {"1.png": "b"}
    assert len(decisions.fixes().rows) == 1


def test_a_file_that_cannot_be_read_is_not_overwritten(tmp_path: Path) -> None:
    """A file with other columns is an error that names it, and keeps its bytes."""
    decisions = decisions_in(tmp_path)
    decisions.path.parent.mkdir()
    decisions.path.write_text("path,label\n1.png,ants\n")
    with pytest.raises(DataError, match="columns"):
        decisions.decide([wish(1, "ants")])

    assert decisions.path.read_text() == "path,label\n1.png,ants\n"


def test_an_edit_by_hand_is_seen(tmp_path: Path) -> None:
    """The file is read again whenever it has changed."""
    decisions = decisions_in(tmp_path)
    decisions.decide([wish(1, "ants")])
    write_label_fixes(decisions.path, [LabelFix(DIGESTS[1], "1.png", "bees")])
    fix = decisions.fixes().of(DIGESTS[1])

    assert fix is not None
    assert fix.label == "bees"


def test_many_tabs_lose_no_decision(tmp_path: Path) -> None:
    """Threads of two servers write at once; every decision is in the file."""
    servers = [decisions_in(tmp_path), decisions_in(tmp_path, "Bob")]
    threads = [
        threading.Thread(target=servers[number % 2].decide, args=[[wish(number, "ants")]]) for number in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(labels(servers[0])) == 9


def test_a_lock_that_is_not_given_back_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process holds the lock, nothing is written, and the message names the lock."""
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.05)
    ann, bob = decisions_in(tmp_path), decisions_in(tmp_path, "Bob")
    with bob._locked(), pytest.raises(DataError, match=r"\.fixes\.lock: another process"):
        ann.decide([wish(1, "ants")])

    assert not ann.path.exists()


_LOOP = """
import sys
from pathlib import Path
from headstart.review.decisions import Decisions, Wish
decisions = Decisions(Path(sys.argv[1]) / "fixes" / "photos.csv", Path(sys.argv[1]) / ".fixes.lock", "Ann", {})
for number in range(100_000):
    decisions.decide([Wish(f"{number:064x}", f"{number}.png", "ants", "suspects", None)])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_killed_server_loses_no_decision(tmp_path: Path) -> None:
    """After kill -9 the file is whole, has every decision that was answered, and no temporary file stays."""
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _LOOP, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        answered = [int(process.stdout.readline()) for _ in range(20)]
        time.sleep(0.0123)
        os.kill(process.pid, signal.SIGKILL)
        answered += [int(line) for line in process.stdout.read().splitlines()]
        process.stdout.close()
        process.wait()
        decisions = decisions_in(tmp_path)

        assert set(labels(decisions)) >= {f"{number}.png" for number in answered}
        assert [path.name for path in decisions.path.parent.iterdir()] == ["photos.csv"]
        decisions.path.unlink()


def test_decisions_wait_while_they_are_held(tmp_path: Path) -> None:
    """What somebody decides while `split` reads the file is written afterwards."""
    decisions, bob = decisions_in(tmp_path), decisions_in(tmp_path, "Bob")
    release = decisions.hold()
    thread = threading.Thread(target=bob.decide, args=[[wish(1, "bees")]])
    thread.start()
    thread.join(0.1)
    assert not decisions.path.exists()
    release()
    thread.join()
    assert labels(decisions) == {"1.png": "bees"}


def test_reasons_are_read_back() -> None:
    """A reason tells the queue, whether the label was right, and whether the image is in the test set."""
    fix = LabelFix(DIGESTS[0], "", "ants", why=reason("random", accepted=True, test_set=True))

    assert fix.why == "accepted; random; test set"
    assert says(fix, "random")
    assert not says(fix, "test")
    assert reason("", accepted=False, test_set=False) == ""
