"""Retraining: one run at a time, in a process of its own, whose end and whose numbers the page can show."""

import fcntl
import itertools
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from headstart.backbone.params import BackboneParams
from headstart.base.errors import DataError
from headstart.review import retrain as module
from headstart.review.comparison import HeadResults, compare
from headstart.review.project import read_project
from headstart.review.retrain import Retrain
from headstart.review.session import Session
from headstart.tables.paired import mcnemar_p, paired_interval
from headstart.tables.predictions import Predictions
from headstart.tables.rows import read_rows
from headstart.tables.split import SplitRow
from tests.support.project import Project, clone_project
from tests.unit.review.conftest import client_of


def no_stamp() -> None:
    """Return the stamp of fixes that never change."""


@dataclass
class Results:
    """The results of a project, read anew for each comparison; `calls` has what the retraining asked for."""

    root: Path
    calls: list[str] = field(default_factory=list)

    def shown(self) -> HeadResults:
        """Return those on the disk."""
        return read_project(self.root).head

    def take(self) -> None:
        """Note the call."""
        self.calls.append("take")

    def leave(self) -> None:
        """Note the call."""
        self.calls.append("leave")


def retrain_by(root: Path, code: str, results: Results | None = None) -> Retrain:
    """Return a retraining that runs Python code."""
    return Retrain(root, no_stamp, results or Results(root), command=[sys.executable, "-c", code])


def run(retrain: Retrain) -> dict[str, object]:
    """Start a run, wait for its end and return its state."""
    assert retrain.start()
    retrain.wait(60)
    return retrain.status()


def test_a_run_that_ends_well_is_compared(root: Path) -> None:
    """Its lines are kept, the last twenty, and its results are compared with those before it."""
    results = Results(root)
    retrain = retrain_by(root, "for number in range(30): print(f'line {number}')", results)
    assert retrain.status()["state"] == "idle"
    status = run(retrain)

    assert status["state"] == "done"
    assert status["lines"] == [f"line {number}" for number in range(10, 30)]
    comparison = status["comparison"]
    assert isinstance(comparison, dict)
    assert (comparison["num_common"], comparison["difference"], comparison["p_value"]) == (3, 0, 1)
    assert results.calls == ["take"]


def test_a_failed_run_gives_the_stage_s_own_words(root: Path) -> None:
    """The reason is the line of the stage that failed, and the old results stay in use."""
    lines = ["Running stage 'split':", "split: row 3: 'antz' is not a class", "ERROR: failed to reproduce 'split'"]
    results = Results(root)
    status = run(retrain_by(root, f"print({chr(10).join(lines)!r}); raise SystemExit(1)", results))

    assert (status["state"], status["reason"]) == ("failed", "split: row 3: 'antz' is not a class")
    assert status["comparison"] is None
    assert results.calls == ["leave"]


@pytest.mark.parametrize(
    "words", ["ERROR: Unable to acquire lock. Most likely another", "'x' is busy, it is being blocked by:"]
)
def test_dvc_s_lock_is_a_state_of_its_own(root: Path, words: str) -> None:
    """If somebody else runs DVC, the page can say so, and the next try may succeed."""
    results = Results(root)
    status = run(retrain_by(root, f"print({words!r}); raise SystemExit(255)", results))

    assert (status["state"], results.calls) == ("locked", [])
    assert "Another DVC process" in str(status["reason"])


def test_a_run_that_somebody_kills_says_so(root: Path) -> None:
    """The last line of a killed run is no reason."""
    status = run(retrain_by(root, "import os; print('all is well', flush=True); os.kill(os.getpid(), 9)"))

    assert (status["state"], "signal 9, SIGKILL" in str(status["reason"])) == ("failed", True)


def test_a_command_that_does_not_exist_is_a_failure(root: Path) -> None:
    """The reason is that of the system."""
    status = run(Retrain(root, no_stamp, Results(root), command=["/no/such/program"]))

    assert (status["state"], "/no/such/program" in str(status["reason"])) == ("failed", True)


_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
_SLEEP = "import os, time; open('pid', 'w').write(str(os.getpid())); os.rename('pid', 'started'); time.sleep(600)"
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + _SLEEP


@pytest.mark.parametrize("code", [_CHILD.format(code=_SLEEP), _DEAF], ids=["with a stage", "deaf"])
def test_a_cancelled_run_ends_with_its_stage(root: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Cancelling ends the command and what it started, even if it does not listen; a second start waits for that."""
    monkeypatch.setattr(module, "_CANCEL_SECONDS", 0.2)
    retrain = retrain_by(root, code)
    retrain.start()
    while not (root / "started").exists():
        time.sleep(0.01)
    assert not retrain.start()
    assert retrain.cancel()
    retrain.wait(60)
    pid = int((root / "started").read_text())

    assert retrain.status()["state"] == "cancelled"
    assert not retrain.cancel()
    with pytest.raises(ProcessLookupError):
        while True:  # until the orphan is reaped
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                raise ProcessLookupError
            time.sleep(0.01)


SPLIT = "open('log', 'a').write({word!r}); print(\"Running stage 'split':\\nUpdating lock file\")"


def splitting(root: Path, stamps: Iterable[object]) -> Retrain:
    """Return a retraining that runs `split` each time, and writes into a log which command ran."""
    asked = iter(stamps)
    commands = ([sys.executable, "-c", SPLIT.format(word=word)] for word in ("repro ", "split "))
    return Retrain(root, lambda: next(asked), Results(root), *commands)


def test_labels_that_change_while_split_runs_are_applied(root: Path) -> None:
    """DVC would count a fix that was made while `split` ran as applied, so the run starts over with `split`."""
    status = run(splitting(root, [1, 2, 2, 2, 2, 2]))

    assert status["state"] == "done"
    assert (root / "log").read_text() == "repro split repro "


def test_people_may_decide_while_the_head_is_trained(root: Path) -> None:
    """A fix that is made after `split` has ended waits for the next run, which needs nothing special."""
    retrain = splitting(root, [1, 1, 2, 2])

    assert [run(retrain)["state"] for _ in range(2)] == ["done", "done"]
    assert (root / "log").read_text() == "repro repro "


def test_labels_that_never_rest_are_a_failure(root: Path) -> None:
    """After some rounds the run gives up and says why; the next one begins with `split`."""
    retrain = splitting(root, itertools.chain(range(2 * module._MOST_ROUNDS), itertools.repeat(0)))
    status = run(retrain)

    assert (status["state"], "Labels changed" in str(status["reason"])) == ("failed", True)
    (root / "log").unlink()
    assert run(retrain)["state"] == "done"
    assert (root / "log").read_text() == "split repro "


def test_new_results_that_cannot_be_read_are_a_failure(root: Path) -> None:
    """The page keeps what it has, and says what is wrong."""

    class Damaged(Results):
        def take(self) -> None:
            raise DataError("data/split.csv: is damaged")

    status = run(retrain_by(root, "", Damaged(root)))

    assert (status["state"], status["reason"]) == ("failed", "data/split.csv: is damaged")


def predictions(labels: str, predicted: str, start: int = 0) -> Predictions:
    """Return predictions for images with one-letter labels, from a number on."""
    names = [f"{number:064x}" for number in range(start, start + len(labels))]
    logits = np.array([[float(name == other) for name in "abc"] for other in predicted])
    return Predictions(names, names, list(labels), list("abc"), logits)


def test_heads_are_compared_on_common_images_by_the_labels_of_now() -> None:
    """A corrected test label counts for both heads, so that only the heads differ; it is counted apart."""
    before = HeadResults(predictions("aabbc", "abbca"), ["s", "t"])
    after = HeadResults(predictions("abcccc", "bbccca", start=1), ["t", "u", "v"])
    found = compare(before, after)

    # Common are images 1 to 4, by now a, b, c, c: before b, b, c, a; after b, b, c, c.
    assert (found["num_common"], found["num_only_before"], found["num_only_after"]) == (4, 1, 2)
    assert found["num_labels_changed"] == 1
    assert (found["accuracy_before"], found["accuracy_after"], found["difference"]) == (0.5, 0.75, 0.25)
    assert (found["newly_right"], found["newly_wrong"]) == (1, 0)
    assert (found["low"], found["high"]) == paired_interval(4, 0, 1)
    assert found["p_value"] == mcnemar_p(0, 1)
    assert (found["suspects_gone_digests"], found["suspects_new_digests"]) == (["s"], ["u", "v"])


def test_heads_without_a_common_test_image_are_not_compared() -> None:
    """There are no numbers, and no division by zero."""
    found = compare(HeadResults(predictions("ab", "ab"), []), HeadResults(predictions("ab", "ab", start=5), []))

    assert (found["num_common"], found["accuracy_before"], found["p_value"]) == (0, None, None)


@pytest.fixture
def finished(tmp_path: Path, tiny_backbone: BackboneParams, engines: Path) -> Project:
    """A clone on a dozen photos whose head is trained, and whose fine-tuned network is not."""
    project = clone_project(tmp_path / "clone")
    project.use_photos(tiny_backbone, engines)
    project.edit_params(split={"method": "hash"})  # the test set stays whatever the labels are
    project.repro("evaluate@head")
    project.commit()
    return project


@pytest.mark.slow
def test_a_decision_changes_the_numbers_through_dvc(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC runs the head's part with the new labels, and the page has the results; it gives way to another DVC."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(finished.root.parent / "dvc-site-cache"))
    monkeypatch.delenv("TORCH_HOME")
    session = Session(finished.root, "Ann")
    client = client_of(session)
    split = read_rows(finished.root / "data/split.csv", SplitRow)
    changed, dropped, *_ = (row for row in split if row.split == "train" and row.label == "red")
    for row, label in ((changed, "blue"), (dropped, "drop")):
        client.post("api/decide", json={"digests": [row.digest], "label": label, "why": "random"})

    lock = finished.root / ".dvc/tmp/lock"
    with lock.open("a") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        fcntl.flock(held, fcntl.LOCK_EX)
        assert client.post("api/retrain").json()["state"] == "running"
        assert client.post("api/retrain").status_code == 409
        session.retrain.wait(120)
        assert client.get("api/retrain").json()["state"] == "locked"
    client.post("api/retrain")
    session.retrain.wait(300)
    status = client.get("api/retrain").json()

    assert status["state"] == "done", status
    assert status["comparison"]["num_common"] > 0
    rows = {row["digest"]: row for row in client.get("api/queue/random").json()["rows"]}
    assert (rows[changed.digest]["label"], rows[changed.digest]["decision"]) == ("blue", "blue")
    assert (rows[dropped.digest]["label"], rows[dropped.digest]["decision"]) == (None, "drop")
    session.close()
