"""Snapshots: results of a run outside the page are shown once they belong together, and half a run's never."""

import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from starlette.testclient import TestClient

from headstart.review import outputs, project
from headstart.review.retrain import Retrain
from headstart.review.session import Session
from headstart.tables.head import LabelSuspect
from headstart.tables.predictions import Predictions, read_predictions, write_predictions
from headstart.tables.rows import read_rows, write_rows
from headstart.tables.split import SplitRow

SUSPECTS = "diagnostics/head/label_suspects.csv"


def state_of(client: TestClient) -> dict[str, Any]:
    """Return the version of the results, what is wrong with those on the disk, and the length of the queue."""
    state = client.get("api/state").json()
    num = next(queue["num"] for queue in state["queues"] if queue["name"] == "suspects")
    return state["results"] | {"num_suspects": num}


def train(root: Path) -> None:
    """Write results of another head, which doubts the first label only and gets everything right."""
    path = root / SUSPECTS
    write_rows(path, read_rows(path, LabelSuspect)[:1], LabelSuspect)
    old = read_predictions(root / "predictions/head.csv")
    logits = np.array([[float(name == label) for name in old.classes] for label in old.labels])
    write_predictions(
        root / "predictions/head.csv", Predictions(old.digests, old.paths, old.labels, old.classes, logits)
    )


def write_lock(root: Path, split: str, read_by_head: str) -> None:
    """Write what DVC notes, with the md5 of the split and of that which the head has read."""

    def out(path: str, md5: str) -> dict[str, object]:
        return {"path": path, "md5": md5.zfill(32), "size": outputs._size(root / path)}

    stages = {
        "split": {"deps": [out("data/index.csv", "0")], "outs": [out("data/split.csv", split)]},
        "head": {
            "deps": [out("data/split.csv", read_by_head)],
            "outs": [out(path, "1") for path in ("diagnostics/head", "predictions/head.csv")],
        },
    }
    with (root / "dvc.lock").open("w") as file:
        YAML(typ="safe").dump({"schema": "2.0", "stages": stages}, file)


def test_every_file_that_is_read_is_watched() -> None:
    """The list of outputs is that of the project's reader."""
    source = Path(project.__file__).read_text(encoding="utf-8")

    assert sorted({*re.findall(r'root / "(\w+/[^"]+)"', source)}) == list(outputs.PATHS)


def test_results_of_a_run_outside_are_taken_into_use(root: Path, client: TestClient) -> None:
    """The page learns of them with its next question; decisions and their undo stay."""
    digest = client.get("api/queue/suspects").json()["rows"][0]["digest"]
    ids = client.post("api/decide", json={"digests": [digest], "label": "green"}).json()["ids"]
    assert state_of(client) == {"version": 0, "is_foreign": False, "gap": None, "num_suspects": 6}
    train(root)

    assert state_of(client) == {"version": 1, "is_foreign": True, "gap": None, "num_suspects": 1}
    assert state_of(client)["version"] == 1
    undone = client.post("api/undo", json={"ids": list(ids.values())}).json()
    assert [row["decision"] for row in undone["rows"]] == [None]


def test_a_run_that_goes_on_is_waited_for(root: Path, session: Session, client: TestClient) -> None:
    """Until DVC has noted that the head has read the split of now, the page keeps the old results and says so."""
    write_lock(root, "a", "a")
    assert state_of(client)["gap"] is None
    split = read_rows(root / "data/split.csv", SplitRow)
    write_rows(root / "data/split.csv", split[:-1], SplitRow)
    found = state_of(client)
    assert (found["version"], "data/split.csv is not what `split` wrote" in found["gap"]) == (0, True)
    write_lock(root, "b", "a")
    assert "`head` has not read the data/split.csv of now" in state_of(client)["gap"]
    (root / "predictions/head.csv").unlink()
    assert "predictions/head.csv is not what `head` wrote" in state_of(client)["gap"]
    assert len(session.project.images) == 12
    write_predictions(root / "predictions/head.csv", session.project.head.predictions)
    train(root)
    write_lock(root, "b", "b")

    assert state_of(client) == {"version": 1, "is_foreign": True, "gap": None, "num_suspects": 1}


def test_a_start_on_half_a_run_says_so(root: Path) -> None:
    """After a run was killed between two stages, the page has what there is, with a warning."""
    write_lock(root, "b", "a")
    session = Session(root, "Ann")

    assert "`head` has not read" in session.state()["results"]["gap"]
    (root / "dvc.lock").write_text("<<<<<<< HEAD\n")
    assert "dvc.lock cannot be read" in session.state()["results"]["gap"]
    session.close()


def test_another_data_set_needs_another_start(root: Path, client: TestClient) -> None:
    """If `data.path` has changed, the decisions must not go into the file of the old data set."""
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("data/photos", "data/others"))
    train(root)
    found = state_of(client)

    assert (found["version"], "Stop this server, and start it again" in found["gap"]) == (0, True)


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_comparison_starts_from_what_was_shown(
    root: Path, session: Session, client: TestClient, is_whole: bool
) -> None:
    """What a cancelled run has left is neither shown nor compared with, even if its stage had ended."""
    write_lock(root, "a", "a")
    sleep = "import pathlib, time; pathlib.Path('started').touch(); time.sleep(600)"
    session.retrain = Retrain(root, lambda: 0, session._snapshots, [sys.executable, "-c", sleep])
    session.retrain.start()
    while not (root / "started").exists():
        time.sleep(0.01)
    train(root)
    if is_whole:
        write_lock(root, "a", "a")
    session.retrain.cancel()
    session.retrain.wait(60)
    found = state_of(client)
    assert (found["version"], found["num_suspects"], found["gap"] is None) == (0, 6, is_whole)
    write_lock(root, "a", "a")

    session.retrain = Retrain(root, lambda: 0, session._snapshots, [sys.executable, "-c", ""])
    session.retrain.start()
    session.retrain.wait(60)
    comparison = session.retrain.status()["comparison"]
    assert (comparison["num_common"], comparison["suspects_gone"]) == (3, 5)
    assert comparison["accuracy_before"] < comparison["accuracy_after"] == 1
