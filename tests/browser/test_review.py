"""The review page in a real browser: a session by keyboard, many images, failures, two people, hostile names."""

import csv
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Locator, Route, expect

from headstart.review.decisions import Decisions, Wish
from headstart.review.redirect import redirect_page
from headstart.review.server import make_app
from headstart.review.session import Session
from headstart.tables.head import LabelSuspect
from headstart.tables.rows import read_rows, write_rows
from headstart.tables.split import SplitRow
from tests.support import review_server
from tests.support.browser import needs_browser
from tests.support.review_project import NUM_SUSPECTS, write_project
from tests.support.serving import serving_review

CLASSES = ("ants", "bees", "butterflies")
HOSTILE = (
    '<img src=x onerror="document.title=1">',
    "</title><b>document.title=2</b>",
    "שלום \u202egnp",
    f"{'Lepidoptera_' * 10}🐝 'quoted' \"twice\"",
)
ODD = "=1+1, \"a\"; 'b' <c> & %20 # ? ünï 🐝 \\n {x} $y / ."
NUM_MANY = 100_000
pytestmark = needs_browser


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an app on a free port in a thread; yields the origin."""
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    with config.bind_socket() as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Review:
    """A project under review: its folder, its images, and the address of its page."""

    root: Path
    images: Sequence[SplitRow]
    address: str
    session: Session

    @property
    def fixes(self) -> dict[str, tuple[str, str]]:
        """The label and the reason of each decision in the file, by the path of the image."""
        path = self.root / "data/label_fixes/photos.csv"
        if not path.exists():
            return {}
        with path.open(newline="", encoding="utf-8") as file:
            return {row["path"]: (row["label"], row["why"]) for row in csv.DictReader(file)}

    def label_of(self, path: str) -> str:
        """Return the label of an image."""
        return next(row.label for row in self.images if row.path == path)


@contextmanager
def reviewing(root: Path, classes: Sequence[str], **options: Any) -> Iterator[Review]:
    """Serve the review of a made-up project."""
    images = write_project(root, classes, **options)
    session = Session(root, "ann")
    with serving(make_app(session, "token", "127.0.0.1")) as origin:
        yield Review(root, images, f"{origin}/token/", session)
    session.close()


@pytest.fixture
def review(tmp_path: Path) -> Iterator[Review]:
    """A review of forty photos in three classes, of which twelve are label suspects."""
    with reviewing(tmp_path / "project", CLASSES) as made:
        yield made


@pytest.fixture(scope="module")
def many() -> Iterator[str]:
    """The address of a page over 100,000 made-up images."""
    images = review_server.Images(NUM_MANY, [f"class {number}" for number in range(300)])
    with serving(review_server.make_app(images)) as origin:
        yield f"{origin}/{review_server.TOKEN}/"


class Visit:
    """A visit of the page; at its end the page must have sent nothing elsewhere and written nothing to the console."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.troubles: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda sent: self.troubles.append(sent.url))
        self.page.goto(address)
        expect(self.current).to_have_count(1)
        expect(self.page.locator("#detail .actions button").first).to_be_visible()

    @property
    def current(self) -> Locator:
        """The cell of the current image."""
        return self.page.locator(".cell.current")

    def current_digest(self) -> str:
        """Return the digest of the current image, as soon as the page has its row."""
        expect(self.current).to_have_attribute("data-digest", re.compile("[0-9a-f]{64}"))
        return self.current.get_attribute("data-digest") or ""

    @property
    def status(self) -> Locator:
        """The line that says what happened."""
        return self.page.locator("#status")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def cell(self, place: int) -> Locator:
        """The cell of the image at a place of the queue."""
        return self.page.locator(f"#cell-{place}")

    def settle(self) -> None:
        """Wait until the server has confirmed all that was decided."""
        expect(self.page.locator("body.saving")).to_have_count(0)
        expect(self.page.locator(".cell.waiting")).to_have_count(0)


@contextmanager
def visiting(browser: Browser, address: str, *, may_fail: bool = False, **options: Any) -> Iterator[Visit]:
    """Visit a page; with may_fail, the browser may report requests that failed."""
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    try:
        visit = Visit(context, address)
        yield visit
    finally:
        context.close()
    problems = [one for one in visit.troubles if not one.startswith(address.partition("#")[0])]
    if may_fail:
        problems = [one for one in problems if not one.startswith("Failed to load resource")]
    assert problems == []


def test_a_whole_session_by_keyboard(browser: Browser, review: Review) -> None:
    """Keys alone accept, keep, choose, drop, skip, select, undo and redo; the file of fixes holds each decision."""
    suspects = [row for row in review.images if row.split == "train"][:NUM_SUSPECTS]
    after = dict(zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True))
    with visiting(browser, review.address) as visit:
        expect(visit.current).to_have_attribute("data-place", "0")
        visit.press("Enter", "k", "3", "d", "s")
        expect(visit.current).to_have_attribute("data-place", "5")
        visit.press("Space", "ArrowRight", "Space", "1")  # two images at once
        expect(visit.status).to_contain_text("2 images: ants")
        visit.press("Shift+ArrowRight", "Shift+ArrowRight")
        expect(visit.page.locator("#detail")).to_contain_text("the 3 selected images")
        visit.press("Enter")
        visit.settle()
        decided = {
            suspects[0].path: after[suspects[0].label],
            suspects[1].path: suspects[1].label,
            suspects[2].path: "butterflies",
            suspects[3].path: "drop",
            suspects[5].path: "ants",
            suspects[6].path: "ants",
            **{row.path: after[row.label] for row in suspects[7:10]},
        }
        assert {path: label for path, (label, _) in review.fixes.items()} == decided
        assert review.fixes[suspects[1].path][1] == "accepted; suspects"
        expect(visit.page.locator("#progress-words")).to_have_text("9 of 12 done")

        visit.press("u")
        visit.settle()
        assert not {row.path for row in suspects[7:10]} & review.fixes.keys()
        visit.press("u")
        visit.settle()
        assert len(review.fixes) == 4
        visit.press("r", "r")
        visit.settle()
        assert {path: label for path, (label, _) in review.fixes.items()} == decided


def test_type_ahead_and_a_new_class(browser: Browser, review: Review) -> None:
    """A few letters find a class; a name that no class has becomes one, and the image belongs to it."""
    with visiting(browser, review.address) as visit:
        visit.press("/")
        visit.page.keyboard.type("flies")
        expect(visit.page.locator("#found li").first).to_have_text("butterflies")
        expect(visit.page.locator("#found").get_by_role("option", selected=True)).to_have_text("butterflies")
        visit.press("Enter")
        visit.settle()
        visit.press("n")
        visit.page.keyboard.type("wasps")
        visit.press("Enter")
        expect(visit.page.locator(".classes")).to_contain_text("wasps")
        visit.settle()
        visit.press("4")
        visit.settle()
        assert [label for label, _ in review.fixes.values()].count("wasps") == 3  # its declaration and two images
        visit.press("/")
        visit.page.keyboard.type("hornets")
        visit.press("Enter")
        expect(visit.page.locator("#class-name")).to_have_value("hornets")
        visit.press("Escape")
        assert "hornets" not in review.session.classes()


def test_zoom_and_help(browser: Browser, review: Review) -> None:
    """The original fills the window, and arrows and decisions go on there; the help lists the keys."""
    with visiting(browser, review.address) as visit:
        visit.press("z")
        photo = visit.page.locator("#zoom img")
        expect(photo).to_be_visible()
        first = photo.get_attribute("src")
        assert first is not None
        assert first.startswith("photo/")
        expect(visit.page.locator("#zoom [role=status]")).to_be_empty()  # it is loaded
        assert photo.evaluate("image => image.naturalWidth") == 160
        visit.press("ArrowRight")
        expect(photo).not_to_have_attribute("src", first)
        visit.press("k", "z")
        visit.settle()
        expect(photo).to_be_hidden()
        assert len(review.fixes) == 1
        visit.press("?")
        expect(visit.page.locator("#help")).to_contain_text("accept the suggestion")
        visit.press("Escape")
        expect(visit.page.locator("#help")).to_be_hidden()


def test_the_panel_says_why(browser: Browser, review: Review) -> None:
    """The panel shows the reason, the probabilities, the neighbours with their labels, and earlier decisions."""
    with visiting(browser, review.address) as visit:
        panel = visit.page.locator("#detail")
        expect(panel.locator(".why")).to_contain_text("trained without")
        expect(panel.locator(".bars li")).to_have_count(len(CLASSES))
        expect(panel.locator(".nearest li")).to_have_count(8)
        visit.press("k", "ArrowLeft")
        visit.settle()
        expect(panel.locator(".decided")).to_contain_text("accepted as it is")
        visit.page.reload()
        expect(panel.locator(".history")).to_contain_text("ann")
        panel.locator(".nearest button").first.click()
        expect(visit.page.locator("#zoom")).to_contain_text("similarity")


def test_many_images(browser: Browser, many: str) -> None:
    """Of 100,000 images only those in view are in the document, and each can be reached and decided."""
    with visiting(browser, many) as visit:
        grid = visit.page.locator("#grid")
        for top in (0.2, 0.5, 0.9):
            grid.evaluate("(grid, top) => { grid.scrollTop = top * grid.scrollHeight; }", top)
            expect(visit.cell(round(top * NUM_MANY)).locator("img")).to_be_visible()
            assert visit.page.locator(".cell").count() < 100
            assert visit.page.evaluate("document.querySelectorAll('*').length") < 1500
        visit.press("End")
        expect(visit.current).to_have_attribute("aria-label", re.compile("/0099999.jpg"))
        expect(visit.current).to_have_attribute("aria-posinset", str(NUM_MANY))
        visit.press("2")
        expect(visit.current).to_have_class(re.compile("done"))
        visit.settle()
        visit.press("Home", "Shift+PageDown", "Shift+PageDown", "k")
        expect(visit.status).to_contain_text(re.compile(r"\d\d images: label kept"))
        visit.settle()
        visit.press("c")
        visit.page.keyboard.type("299")
        expect(visit.page.locator("#found li").first).to_have_text("class 299")
        visit.press("Enter")
        visit.settle()


def test_a_failure_is_shown_and_taken_back(browser: Browser, review: Review) -> None:
    """A decision that the server cannot take is no longer shown, and a button sends it again."""
    with visiting(browser, review.address, may_fail=True) as visit:

        def refuse(route: Route) -> None:
            route.fulfill(status=500, json={"detail": "the disk is full"})

        visit.page.route("**/api/decide", refuse)
        visit.press("Enter")
        notice = visit.page.locator("#notice-failed")
        expect(notice).to_contain_text("the disk is full")
        expect(visit.cell(0)).not_to_have_class(re.compile("done"))
        expect(visit.page.locator("#undo")).to_be_disabled()
        assert review.fixes == {}
        visit.page.unroute("**/api/decide", refuse)
        notice.get_by_text("Try again").click()
        expect(visit.cell(0)).to_have_class(re.compile("done"))
        visit.settle()
        expect(notice).to_be_hidden()
        assert len(review.fixes) == 1


@pytest.mark.slow
def test_a_killed_server_loses_no_confirmed_decision(browser: Browser, tmp_path: Path) -> None:
    """If the server is killed during a decision, the page says so; a new server shows all that was confirmed."""
    root = tmp_path / "project"
    write_project(root, CLASSES)
    with serving_review(root) as (server, address), visiting(browser, address, may_fail=True) as visit:
        visit.press("Enter", "Enter", "k")
        visit.settle()
        visit.press("Enter")
        server.send_signal(signal.SIGKILL)
        visit.press("Enter", "Enter")
        server.wait()
        expect(visit.page.locator("#notice-failed")).to_contain_text("does not answer")
        visit.settle()
        confirmed = visit.page.locator(".cell.done").evaluate_all("all => all.map(one => one.dataset.digest)")
    assert len(confirmed) >= 3
    with serving_review(root) as (_, address), visiting(browser, address) as visit:
        expect(visit.page.locator(".cell")).to_have_count(NUM_SUSPECTS)
        kept = visit.page.locator(".cell.done").evaluate_all("all => all.map(one => one.dataset.digest)")
        assert set(confirmed) <= set(kept)


def test_the_private_page_leads_to_the_address(browser: Browser, review: Review) -> None:
    """A browser that opens the file of the redirect shows the review page."""
    page = browser.new_page()
    with redirect_page(review.address) as path:
        page.goto(path.as_uri())
        expect(page.locator(".cell.current")).to_have_count(1)
    assert page.url.startswith(review.address)
    page.close()


def test_two_tabs(browser: Browser, review: Review) -> None:
    """A tab that decides over the decision of another one shows both answers; only a click overwrites the first."""
    with visiting(browser, review.address) as one, visiting(browser, review.address, may_fail=True) as other:
        # Both have shown the image undecided; the second does not ask again before it decides.
        other.page.route("**/api/state", lambda route: route.abort())
        one.press("2", "2")
        one.settle()
        other.press("3", "3")
        conflicts = other.page.locator(".notice").filter(has_text="got another answer")
        expect(conflicts).to_have_count(2)
        other.page.unroute("**/api/state")
        first = conflicts.first
        expect(first).to_contain_text("ann decided bees")
        expect(first).to_contain_text("you decided butterflies")
        expect(other.cell(0)).to_contain_text("✓")
        assert {label for label, _ in review.fixes.values()} == {"bees"}
        first.get_by_text("Use butterflies").click()
        other.settle()
        conflicts.get_by_text("Keep bees").click()
        assert sorted(label for label, _ in review.fixes.values()) == ["bees", "butterflies"]


def test_undo_leaves_the_decisions_of_others_alone(browser: Browser, review: Review) -> None:
    """Somebody who agrees unseen with another person's decision does not take that decision back with undo."""
    project = review.session.project
    with visiting(browser, review.address, may_fail=True) as visit:
        visit.page.route("**/api/state", lambda route: route.abort())
        digest = visit.current_digest()
        path = project.images[digest].path
        bob = Decisions(project.fixes_path, project.lock_path, "bob", project.digests)
        bob.decide([Wish(digest, path, "bees", "suspects", None)])
        visit.press("2")
        visit.settle()
        visit.press("u")
        visit.settle()
        assert [fix.who for fix in bob.fixes().rows] == ["bob"]


def test_undo_is_for_what_this_tab_decided(browser: Browser, review: Review) -> None:
    """Of two tabs of one person, the one that agreed unseen with the other has nothing to undo."""
    with visiting(browser, review.address) as one, visiting(browser, review.address, may_fail=True) as other:
        other.page.route("**/api/state", lambda route: route.abort())
        one.press("2")
        one.settle()
        other.press("2")
        other.settle()
        expect(other.page.locator("#undo")).to_be_disabled()
        other.press("u")
        expect(other.status).to_have_text("There is nothing to undo.")
        assert len(review.fixes) == 1
        one.press("u")
        one.settle()
        assert review.fixes == {}


@pytest.mark.parametrize("goes_back", [True, False])
def test_an_undo_that_meets_another_decision(browser: Browser, review: Review, goes_back: bool) -> None:
    """Whoever takes back what somebody has changed since chooses between that and what was there before."""
    project = review.session.project
    with visiting(browser, review.address, may_fail=True) as visit:
        path = project.images[visit.current_digest()].path
        visit.press("2")
        visit.settle()
        visit.page.route("**/api/state", lambda route: route.abort())
        bob = Decisions(project.fixes_path, project.lock_path, "bob", project.digests)
        bob.decide([Wish(project.digests[path], path, "drop", "suspects", "bees")])
        visit.press("u")
        notice = visit.page.locator(".notice").filter(has_text="got another answer")
        expect(notice).to_contain_text("bob decided drop")
        expect(notice).to_contain_text("you went back to undecided")
        expect(notice.locator("li button")).to_have_text(["Keep drop", "Go back to undecided"])
        notice.get_by_text("Go back to" if goes_back else "Keep").click()
        visit.settle()
        expect(notice).to_be_hidden()
        assert [fix.label for fix in bob.fixes().rows] == ([] if goes_back else ["drop"])
        expect(visit.page.locator(".cell.done")).to_have_count(0 if goes_back else 1)


def test_a_run_outside_the_page(browser: Browser, review: Review) -> None:
    """Results of somebody's own `dvc repro` appear with a notice; the decision before can still be taken back."""
    path = review.root / "diagnostics/head/label_suspects.csv"
    rows = read_rows(path, LabelSuspect)
    with visiting(browser, review.address) as visit:
        visit.press("Enter")
        visit.settle()
        expect(visit.page.locator("#progress-words")).to_have_text("1 of 12 done")
        write_rows(path, rows[::-1], LabelSuspect)  # no count changes
        visit.page.evaluate("dispatchEvent(new Event('focus'))")
        expect(visit.page.locator("#notice-results")).to_contain_text("A run outside this page")
        expect(visit.cell(0)).to_have_attribute("data-digest", rows[-1].digest)
        visit.press("u")
        visit.settle()
        assert review.fixes == {}


def test_what_others_decide_appears(browser: Browser, review: Review) -> None:
    """A decision of another tab is shown when somebody comes back to the page."""
    with visiting(browser, review.address) as one, visiting(browser, review.address) as other:
        one.press("Enter")
        one.settle()
        other.page.evaluate("dispatchEvent(new Event('focus'))")
        expect(other.cell(0)).to_have_class(re.compile("done"))
        expect(other.page.locator("#progress-words")).to_have_text("1 of 12 done")


def test_hostile_names_are_text(browser: Browser, tmp_path: Path) -> None:
    """Names of files and classes that contain markup are shown unchanged, and run nothing."""
    with (
        reviewing(tmp_path / "project", HOSTILE, name="{number} <b>&'\".png") as review,
        visiting(browser, review.address) as visit,
    ):
        visit.press("Enter", "k", "ArrowLeft")
        visit.settle()
        expect(visit.page.locator("#detail .nearest li")).to_have_count(8)
        visit.page.locator("[data-queue=quarantined]").click()
        expect(visit.page.locator("#detail")).to_contain_text("damaged: <b>no image</b>")
        visit.press("Enter")
        expect(visit.status).to_contain_text("nothing can be decided")
        for queue in ("disagree", "alike", "random", "decided"):
            visit.page.locator(f"[data-queue={queue}]").click()
            expect(visit.page.locator(".cell").first).to_contain_text(re.compile("onerror|title|gnp|Lepidoptera"))
        visit.press("z")
        expect(visit.page.locator("#zoom .words")).to_contain_text("<b>&'\".png")
        assert visit.page.title() == "Review data/photos"
        assert visit.page.locator("body b").count() == 0
        assert visit.page.locator("body script").count() == 0
        sources = visit.page.eval_on_selector_all("img", "all => all.map(one => one.getAttribute('src'))")
        assert all(re.fullmatch("(thumb|photo)/[0-9a-f]{64}", source) for source in sources)


def test_a_class_with_every_odd_character(browser: Browser, review: Review) -> None:
    """A new class may have any printable characters; the file of fixes and the page keep its name."""
    with visiting(browser, review.address) as visit:
        visit.press("n")
        visit.page.locator("#class-name").fill(ODD)
        visit.press("Enter")
        expect(visit.cell(0)).to_have_class(re.compile("done"))
        visit.settle()
        name = ODD
        assert review.fixes[""][0] == name
        assert sorted(label for label, _ in review.fixes.values()) == [name, name]
        visit.page.reload()
        expect(visit.cell(0).locator(".answer bdi")).to_have_text(name)
        visit.press("4")
        visit.settle()
        assert [label for label, _ in review.fixes.values()].count(name) == 3


def test_back_and_reload(browser: Browser, review: Review) -> None:
    """The address holds queue and image: the back button returns to both, and a reload stays."""
    with visiting(browser, review.address) as visit:
        visit.press("ArrowRight", "ArrowRight")
        digest = visit.current_digest()
        visit.page.locator("[data-queue=random]").click()
        expect(visit.page.locator("[data-queue=random]")).to_have_attribute("aria-current", "true")
        visit.press("ArrowDown")
        below = visit.current_digest()
        visit.page.reload()
        expect(visit.current).to_have_attribute("data-digest", below)
        visit.page.go_back()
        expect(visit.page.locator("[data-queue=suspects]")).to_have_attribute("aria-current", "true")
        expect(visit.current).to_have_attribute("data-digest", digest)
        visit.page.go_forward()
        expect(visit.current).to_have_attribute("data-digest", below)


def test_retraining(browser: Browser, many: str) -> None:
    """The page shows that the head is being trained, then the comparison; a run can be cancelled."""
    with visiting(browser, many) as visit:
        visit.page.click("#show-retrain")
        panel = visit.page.locator("#retrain")
        panel.get_by_text("Retrain the head").click()
        expect(panel).to_contain_text("Training the head")
        expect(panel).to_contain_text("Running stage")
        panel.get_by_text("Cancel the run").click()
        expect(panel).to_contain_text("Cancelled")
        panel.get_by_text("Retrain the head").click()
        expect(panel).to_contain_text("On the 153 test images", timeout=10_000)
        expect(panel).to_contain_text("The difference may be chance.")
        expect(panel).to_contain_text("18 label suspects went away, 2 new.")
        expect(panel.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"\+2\.6 points"))


def test_changed_labels_of_test_images_are_counted(browser: Browser, review: Review) -> None:
    """A correction of a test image brings a warning about what it does to the numbers; accepting its label does not."""
    with visiting(browser, review.address) as visit:
        visit.page.locator("[data-queue=wrong]").click()
        visit.press("k", "Enter")
        visit.settle()
        expect(visit.page.locator("#notice-test")).to_contain_text("1 label of test images changed")
        visit.page.locator("[data-queue=random]").click()
        visit.press("k")
        expect(visit.page.locator("#summary")).to_contain_text("random image")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(browser: Browser, review: Review, scheme: str) -> None:
    """At 360 pixels nothing is cut off, fingers can do all, and the colours follow the system."""
    viewport = {"width": 360, "height": 740}
    with visiting(browser, review.address, viewport=viewport, color_scheme=scheme, has_touch=True) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
        expect(visit.page.get_by_role("heading", level=1)).to_have_text("Review data/photos")
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 19, 24)"}[scheme]
        visit.cell(1).locator(".tick").tap()
        visit.cell(2).locator(".tick").tap()
        visit.page.locator(".actions .main").tap()
        visit.settle()
        assert len(review.fixes) == 2
        visit.page.locator("#show-queues").tap()
        visit.page.locator("[data-queue=random]").tap()
        expect(visit.page.locator("#show-queues")).to_contain_text("Random")
        expect(visit.page.locator("#side")).to_be_hidden()


def test_a_screen_reader_is_told(browser: Browser, review: Review) -> None:
    """The grid is a list box whose current option is named; each button has a name, and decisions are announced."""
    with visiting(browser, review.address, reduced_motion="reduce") as visit:
        grid = visit.page.get_by_role("listbox", name="Images")
        expect(grid).to_be_focused()
        visit.press("ArrowRight")
        expect(grid).to_have_attribute("aria-activedescendant", "cell-1")
        expect(visit.cell(1)).to_have_attribute("aria-label", re.compile(r"\.png, label \w+, suggestion \w+"))
        visit.press("Space")
        expect(visit.page.get_by_role("option", selected=True)).to_have_count(1)
        visit.press("k")
        expect(visit.page.get_by_role("status").filter(has_text="1 image: label kept")).to_have_count(1)
        visit.settle()
        expect(visit.cell(1)).to_have_attribute("aria-label", re.compile("accepted"))
        names = visit.page.eval_on_selector_all(
            "button",
            "all => all.filter(one => one.checkVisibility()).map(one => one.ariaLabel || one.textContent.trim())",
        )
        assert all(names)
        durations = visit.page.eval_on_selector_all(
            "*", "all => all.map(one => getComputedStyle(one).transitionDuration)"
        )
        assert set(durations) == {"0s"}


def test_a_poll_keeps_the_focus(browser: Browser, review: Review) -> None:
    """When the page draws its buttons anew, the button that has the focus keeps it."""
    with visiting(browser, review.address) as visit, visiting(browser, review.address) as other:
        visit.page.locator("[data-queue=doubtful]").focus()
        other.press("Enter")
        other.settle()
        visit.page.evaluate("dispatchEvent(new Event('focus'))")
        expect(visit.page.locator("#progress-words")).to_have_text("1 of 12 done")
        expect(visit.page.locator("[data-queue=doubtful]")).to_be_focused()
