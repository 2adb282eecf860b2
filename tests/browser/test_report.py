"""The report in a real browser: it opens, filters, and shows hostile names as text."""

import csv
import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from stages.core.files import sha256_file, write_metrics
from stages.core.tables import IndexRow, SplitRow
from tests.browser.workspace import run_room, write_results
from tests.source import ROOT

HOSTILE = '<img src=x onerror="document.title=1">'
LONG = "00000_Animalia_Arthropoda_Insecta_Lepidoptera_Nymphalidae_Danaus_plexippus"
CLASSES = [HOSTILE, "</script><script>document.title=2</script>", "שלום \u202egnp", f"{LONG} 🐝 🐝 'quoted' \"twice\""]
NUM = 40
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project of 40 photos in four classes with hostile names, with its report."""
    root = tmp_path_factory.mktemp("report")
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for old, new in (("path: data/digits", "path: data/photos"), ("resamples: 1000", "resamples: 100"),
                     ("title: Headstart report", "title: 'R & <b>'")):  # fmt: skip
        assert old in params
        params = params.replace(old, new)
    (root / "params.yaml").write_text(params, encoding="utf-8")
    random = np.random.default_rng(0)
    split = []
    index = []
    for number in range(NUM):
        path = root / "data" / "photos" / str(number % 4) / f"{number} <b>&'\".png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 160, 3), dtype=np.uint8)).save(path)
        name, digest = str(path.relative_to(root / "data" / "photos")), sha256_file(path)
        index.append(IndexRow(name, digest, "PNG", 160, 20, "ok", ""))
        split.append(SplitRow(digest, name, CLASSES[number % 4], "train" if number < 20 else "test", digest))
    index.append(IndexRow("bad.png", "", "", 0, 0, "quarantined", f"damaged: {HOSTILE}"))
    write_results(root, index, split, CLASSES, "features.3.block.1 <b>")
    run_room(root, "report")
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give the machine's own Chromium, without a window."""
    with sync_playwright() as playwright:
        # As root, in a container say, Chromium's own sandbox does not start.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, workspace: Path) -> Iterator[Page]:
    """Open the report; at the end nothing may have been asked of a network or written to the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    troubles: list[str] = []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    address = (workspace / "reports/index.html").as_uri()
    opened.on("request", lambda request: troubles.append(request.url))
    opened.goto(address)
    yield opened
    context.close()
    assert [trouble for trouble in troubles if not trouble.startswith(("data:", address))] == []


def guesses(workspace: Path, track: str) -> dict[str, tuple[str, str, float]]:
    """Return label, prediction and confidence by digest, from the table of predictions."""
    with (workspace / f"predictions/{track}.csv").open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    found = {}
    for digest, _, label, predicted, *logits in rows:
        values = np.exp(np.array(logits, dtype=float))
        found[digest] = label, predicted, float(values.max() / values.sum())
    return found


@needs_browser
def test_hostile_names_are_text(page: Page) -> None:
    """Names of classes and files that are markup are shown as they are written, and run nothing."""
    text = page.inner_text("body")

    assert page.title() == "R & <b>"
    assert all(name in text for name in (*CLASSES, "20 <b>&'\".png", "features.3.block.1 <b>", f"damaged: {HOSTILE}"))
    assert page.locator("script").count() == 2
    assert page.locator("main b:not([role])").count() == 0
    sources = page.eval_on_selector_all("img", "all => all.map(one => one.src)")
    assert all(source.startswith("data:image/webp") for source in sources)


@needs_browser
def test_the_gallery_filters_by_outcome_class_and_disagreement(page: Page, workspace: Path) -> None:
    """Each filter leaves the cards of which the tables of predictions say so, and the count says how many."""
    ship = page.inner_text("#verdict h2 em")
    first, other = (guesses(workspace, track) for track in (ship, {"head": "finetune", "finetune": "head"}[ship]))
    wrong = sum(label != predicted for label, predicted, _ in first.values())
    unsure = sum(label == predicted and confidence < 0.8 for label, predicted, confidence in first.values())
    disputed = sum(first[digest][1] != other[digest][1] for digest in first)
    shown = page.locator("#cards .card:visible")

    assert shown.count() == 20
    page.select_option("#filters [name=outcome]", "wrong")
    assert shown.count() == wrong > 0
    page.select_option("#filters [name=outcome]", "unsure")
    assert shown.count() == unsure > 0
    page.select_option("#filters [name=outcome]", "")
    page.check("#filters [name=disputed]")
    assert shown.count() == disputed > 0
    page.uncheck("#filters [name=disputed]")
    page.select_option("#filters [name=label]", label=HOSTILE)
    assert shown.count() == 5
    assert page.inner_text("#num-shown") == "5 shown"
    assert all(HOSTILE in text for text in shown.all_inner_texts())


@needs_browser
def test_the_map_shows_the_photo_under_the_pointer_and_by_keyboard(page: Page) -> None:
    """Pointing at an image shows it; the arrow keys go from image to image; filters hide the others."""
    page.hover("#points circle:nth-of-type(3)", force=True)
    pointed = page.inner_text("#point")
    page.focus("#points")
    moved = set()
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown") * 2:
        page.keyboard.press(key)
        moved.add(page.inner_text("#point"))

    assert "<b>&'\".png" in pointed
    assert page.locator("#point img").count() == 1
    assert len(moved) > 1
    before = page.eval_on_selector("#points circle", "one => one.getAttribute('cx')")
    page.select_option("#map-controls [name=projection]", "2")
    assert page.eval_on_selector("#points circle", "one => one.getAttribute('cx')") != before
    page.select_option("#map-controls [name=split]", "train")
    assert page.locator("#points circle:visible").count() == 20


@needs_browser
def test_a_suspects_line_can_be_copied(page: Page) -> None:
    """The button gives a CSV line with the photo's path and the class that the folds prefer."""
    line = page.get_attribute("#labels button.copy", "data-text")
    assert line is not None
    ((path, label, *_),) = csv.reader([line])
    page.click("#labels button.copy")

    assert (path, label) == ("0/0 <b>&'\".png", CLASSES[1])
    expect(page.locator("#labels button.copy")).to_have_text(re.compile("Copied|Marked below"))


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_follows_the_colour_scheme(
    browser: Browser, workspace: Path, scheme: str, width: int
) -> None:
    """Nothing is wider than the screen, and text stands out of its background as WCAG asks (4.5 to 1)."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.goto((workspace / "reports/index.html").as_uri())
    colours = opened.evaluate(
        """() => ["paper", "card", "ink", "soft", "head", "finetune", "right", "wrong"].map(
            (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim())"""
    )
    paper, card, *inks = (luminance(colour) for colour in colours)

    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert (paper > 0.5) == (scheme == "light")
    for ink in inks:
        for ground in (paper, card):
            assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5
    context.close()


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rgb` or `#rrggbb` (WCAG 2.2)."""
    digits = colour.removeprefix("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_nothing_is_fetched_and_no_text_is_markup(workspace: Path) -> None:
    """Without a browser: no address but pictures inside the page, and no name of the data stands there unescaped."""
    page = (workspace / "reports/index.html").read_text(encoding="utf-8")

    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page.replace("http://www.w3.org/2000/svg", "")) == []
    assert HOSTILE not in page
    assert html.escape(HOSTILE, quote=False) in page.replace("&#34;", '"')
    assert "document.title=2</script>" not in page


def test_the_same_inputs_give_the_same_page(workspace: Path) -> None:
    """Written again the page has the same bytes, also where training took longer."""
    path = workspace / "reports/index.html"
    before = path.read_bytes()
    write_metrics(workspace / "metrics/finetune_timings.json", "finetune_timings", {"training_seconds": 9000.0})
    run_room(workspace, "report")

    assert path.read_bytes() == before
    assert b"2 epochs of 16 images, 32 passes" in before


def test_photos_that_are_not_there_are_told(workspace: Path, tmp_path: Path) -> None:
    """Without its photos the page is made all the same, says so, and names them."""
    shutil.copytree(workspace, tmp_path / "copy")
    gone = sorted((tmp_path / "copy/data/photos").rglob("*.png"))
    for file in gone[:30]:
        file.unlink()
    gone[-1].write_bytes(b"something else")
    printed = run_room(tmp_path / "copy", "report")
    page = (tmp_path / "copy/reports/index.html").read_text(encoding="utf-8")

    assert "report: WARNING: 31 photos are not there, or changed" in printed
    assert "no photo here" in page
