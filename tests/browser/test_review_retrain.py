"""Retraining from the review page through DVC: in a real browser, and after a kill of the server or of DVC."""

import csv
import os
import re
import signal
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from headstart.backbone.params import BackboneParams
from headstart.review import outputs
from headstart.tables.rows import read_rows
from headstart.tables.split import SplitRow
from tests.browser.test_review import Visit, visiting
from tests.support.browser import needs_browser
from tests.support.project import Project, clone_project
from tests.support.serving import serving_review

pytestmark = [needs_browser, pytest.mark.slow]
_RANDOM = "#queue=random&at=0&image="


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams, engines: Path) -> Project:
    """A clone on two dozen photos whose head is trained."""
    made = clone_project(tmp_path_factory.mktemp("retrain") / "clone")
    made.use_photos(tiny_backbone, engines, per_class=8)
    made.edit_params(split={"method": "hash"})  # the test set stays whatever the labels are
    made.repro("evaluate@head")
    made.commit()
    return made


def change(visit: Visit, project: Project) -> str:
    """Give the current image the class after that which it has, and return its digest."""
    digest = visit.current_digest()
    label = {row.digest: row.label for row in read_rows(project.root / "data/split.csv", SplitRow)}.get(digest, "red")
    visit.press({"blue": "2", "green": "3", "red": "1"}[label])
    visit.settle()
    return digest


def labels_of(project: Project, digest: str) -> tuple[str, str]:
    """Return the label of an image in the file of fixes, and in the split."""
    with (project.root / "data/label_fixes/photos.csv").open(newline="", encoding="utf-8") as file:
        fixes = {row["digest"]: row["label"] for row in csv.DictReader(file)}
    split = {row.digest: row.label for row in read_rows(project.root / "data/split.csv", SplitRow)}
    return fixes[digest], split.get(digest, "drop")


def retrain(visit: Visit) -> None:
    """Press the button, and wait for the comparison."""
    visit.page.locator("#show-retrain").click()
    panel = visit.page.locator("#retrain")
    panel.get_by_text("Retrain the head").click()
    expect(panel).to_contain_text("Training the head")
    expect(panel).to_contain_text(re.compile(r"On the \d+ test images that both have"), timeout=120_000)
    panel.get_by_text("Close").click()


def test_retraining_in_a_browser(browser: Browser, project: Project) -> None:
    """A decision, the button, and the page has the comparison, the new label and new queues."""
    with (
        serving_review(project.root, project.environment()) as (_, address),
        visiting(browser, address + _RANDOM) as visit,
    ):
        digest = visit.current_digest()
        visit.press("d")
        visit.settle()
        retrain(visit)
        expect(visit.page.locator("#summary")).to_contain_text("before the last retrain")
        expect(visit.cell(0)).to_contain_text("no label")  # it is dropped
    assert labels_of(project, digest) == ("drop", "drop")
    assert outputs.find_gap(project.root) is None


@pytest.mark.parametrize(("victim", "stage"), [("server", "head"), ("DVC", "split")])
def test_a_kill_while_dvc_runs(browser: Browser, project: Project, victim: str, stage: str) -> None:
    """Decisions are whole, nothing half is taken for a result, and the next run applies all."""
    with (
        serving_review(project.root, project.environment()) as (server, address),
        visiting(browser, address + _RANDOM, may_fail=True) as visit,
    ):
        visit.press("End")
        first = change(visit, project)
        visit.page.locator("#show-retrain").click()
        visit.page.locator("#retrain").get_by_text("Retrain the head").click()
        expect(visit.page.locator("#retrain pre")).to_contain_text(f"Running stage '{stage}'", timeout=120_000)
        (dvc,) = children_of(server.pid)
        os.kill(server.pid if victim == "server" else dvc, signal.SIGKILL)
        if victim == "server":
            server.wait()
        else:
            expect(visit.page.locator("#retrain")).to_contain_text("Somebody ended DVC", timeout=60_000)
    wait_for_the_end_of(dvc)
    with (
        serving_review(project.root, project.environment()) as (_, address),
        visiting(browser, address + _RANDOM) as visit,
    ):
        second = change(visit, project)
        retrain(visit)
    for digest in (first, second):
        fix, label = labels_of(project, digest)
        assert fix == label
    assert outputs.find_gap(project.root) is None
    assert project.repro("evaluate@head") == []


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def wait_for_the_end_of(group: int) -> None:
    """Wait until no process of a group is at work. One that nobody has asked for its exit code does not count."""
    while any(is_at_work(path, group) for path in Path("/proc").glob("[0-9]*/stat")):
        time.sleep(0.05)


def is_at_work(stat: Path, group: int) -> bool:
    """Return whether a process is of a group and has not ended."""
    try:
        state, _, found = stat.read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return False
    return int(found) == group and state != "Z"
