"""The report in a real browser: it opens, filters, and shows hostile names as text."""

import base64
import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from benchmarks.workspace import run_main, write_results
from headstart.base.files import sha256_file
from headstart.tables.index import IndexRow
from headstart.tables.metrics import write_metrics
from headstart.tables.robustness import Robustness, write_robustness
from headstart.tables.rows import read_rows, write_rows
from headstart.tables.split import SplitRow
from tests.support.browser import needs_browser
from tests.support.source import ROOT

HOSTILE = '<img src=x onerror="document.title=1">'
LONG = "00000_Animalia_Arthropoda_Insecta_Lepidoptera_Nymphalidae_Danaus_plexippus"
CLASSES = [HOSTILE, "</script><script>document.title=2</script>", "שלום \u202egnp", f"{LONG} 🐝 🐝 'quoted' \"twice\""]
NUM = 40


def colour_of(number: int) -> tuple[int, int, int]:
    """Return the colour of a photo."""
    return 40 + 5 * number, 240 - 5 * number, 80 * (number % 3)


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
    split = []
    index = []
    for number in range(NUM):
        path = root / "data" / "photos" / str(number % 4) / f"{number} <b>&'\".png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (160, 20), colour_of(number)).save(path)
        name, digest = str(path.relative_to(root / "data" / "photos")), sha256_file(path)
        index.append(IndexRow(name, digest, "PNG", 160, 20, "ok", ""))
        part = "train" if number < 16 else "val" if number < 20 else "test"
        split.append(SplitRow(digest, name, CLASSES[number % 4], part, digest))
    index.append(IndexRow("bad.png", "", "", 0, 0, "quarantined", f"damaged: {HOSTILE}"))
    index += [IndexRow(f"copy {place}.png", "", "", 0, 0, "duplicate", index[place].path) for place in range(2)]
    index.append(IndexRow("notes.txt", "", "", 0, 0, "skipped", "extension"))
    write_results(root, index, split, CLASSES, "features.3.block.1 <b>", num_suspects=3)
    run_main(root, "report")
    return root


@pytest.fixture
def page(browser: Browser, workspace: Path) -> Iterator[Page]:
    """Open the report. At the end, nothing may have been fetched or written to the console."""
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
    """Names of classes and files that contain markup are shown unchanged, and run nothing."""
    text = page.inner_text("body")

    assert page.title() == "R & <b>"
    assert all(name in text for name in (*CLASSES, "20 <b>&'\".png", "features.3.block.1 <b>", f"damaged: {HOSTILE}"))
    assert page.locator("script").count() == 2
    assert page.locator("main b:not([role])").count() == 0
    sources = page.eval_on_selector_all("img", "all => all.map(one => one.src)")
    assert all(source.startswith("data:image/webp") for source in sources)


@needs_browser
def test_the_gallery_filters_by_outcome_class_and_disagreement(page: Page, workspace: Path) -> None:
    """Each filter leaves the cards that the tables of predictions name, and the page says how many."""
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


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def both_tracks(page: Page) -> tuple[str, str]:
    """Return the recommended track and the other one, in the order of the page."""
    ship = page.inner_text("#verdict h2 em")
    return ship, {"head": "finetune", "finetune": "head"}[ship]


def cells(page: Page, table: str) -> list[list[str]]:
    """Return the texts of all cells in the body of a table, with single spaces."""
    read = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim().replace(/\\s+/g, ' ')))"
    found: list[list[str]] = page.locator(table).locator("tbody tr").evaluate_all(read)
    return found


def shown(value: str, low: str = "", high: str = "") -> str:
    """Return how the page writes a number with its interval."""
    number = f"{float(value):.3f}" if value else "none"
    return f"{number} {float(low):.3f} to {float(high):.3f}" if low else number


@needs_browser
def test_the_tables_of_scores_are_those_of_the_files(page: Page, workspace: Path) -> None:
    """Each track's column has that track's scores, on all images, on the distinct ones, and for each class."""
    tracks = both_tracks(page)
    scores = [rows_of(workspace / f"plots/{track}/scores.csv") for track in tracks]
    classes = [rows_of(workspace / f"plots/{track}/classes.csv") for track in tracks]

    assert cells(page, "#scores table >> nth=0") == [
        [pair[0]["title"], pair[0]["better"]]
        + [
            text
            for one in pair
            for text in (
                shown(one["value"], one["low"], one["high"]),
                shown(one["distinct_value"], one["distinct_low"], one["distinct_high"]),
            )
        ]
        for pair in zip(*scores, strict=True)
    ]
    assert len({row["value"] for track in scores for row in track}) > len(scores[0])  # the tracks are not alike
    assert any(row["value"] != row["distinct_value"] for row in scores[0])
    assert [row[1:] for row in cells(page, "#scores table >> nth=1")] == [
        [
            pair[0]["num_images"],
            *(
                text
                for one in pair
                for text in (
                    shown(one["recall"], one["recall_low"], one["recall_high"]),
                    shown(one["precision"]),
                    shown(one["f1"]),
                )
            ),
        ]
        for pair in zip(*classes, strict=True)
    ]


@needs_browser
def test_charts_show_the_numbers_of_the_files(page: Page, workspace: Path) -> None:
    """Every line has the numbers and as many points as its file, in the colour of its track."""
    plots = workspace / "plots"
    lines = {
        "Cross-validated accuracy by layer": [("head", "head_training/layers", "layers", "accuracy", True)],
        "Cross-validated accuracy by number": [("head", "head_training/learning", "num_images", "accuracy", True)],
        "Accuracy of the inner validation": [
            ("finetune", "finetune_training/curve", "epoch", "accuracy", False),
            ("start", "finetune_training/curve", "epoch", "start_accuracy", False),
        ],
        "Reliability": [(one, f"{one}/reliability", "confidence", "accuracy", True) for one in ("head", "finetune")],
        "Accuracy on the most confident": [
            (one, f"{one}/coverage", "coverage", "accuracy", False) for one in ("head", "finetune")
        ],
        "ROC": [
            (one, f"{one}/roc", "false_positive_rate", "true_positive_rate", False) for one in ("head", "finetune")
        ],
    }
    for title, expected in lines.items():
        rows = [row for row in cells(page, f'figure:has(figcaption:text("{title}")) table') if row[0] != "ideal"]
        wanted = [
            [name, row[x] if x == "layers" else f"{float(row[x]):.4g}", f"{float(row[y]):.4g}"]
            + ([f"{float(row[f'{y}_{end}']):.4g}" for end in ("low", "high")] if has_band else ["", ""])
            for name, file, x, y, has_band in expected
            for row in rows_of(plots / f"{file}.csv")
        ]
        assert rows == wanted
        drawn = page.locator(f'figure:has(figcaption:text("{title}")) svg')
        for name, file, *_ in expected:
            role = "ideal" if name == "start" else name
            points = drawn.locator(f"g.line.{role} polyline").last.get_attribute("points")
            assert points is not None
            assert len(points.split()) == len(rows_of(plots / f"{file}.csv"))


@needs_browser
def test_photos_are_those_of_their_names(page: Page) -> None:
    """Every thumbnail (gallery, suspects, pairs) has the colour of its photo and the size that params ask for."""
    colours = page.evaluate(
        """async () => {
            const all = [...document.querySelectorAll("main img")].filter((one) => !one.closest("#map, #batch"));
            return Promise.all(all.map(async (image) => {
                await image.decode();
                const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
                const context = canvas.getContext("2d");
                context.drawImage(image, 0, 0, 1, 1);
                return [image.alt, image.naturalWidth, ...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
            }));
        }"""
    )

    assert len(colours) == 20 + 3 + 2 * 3
    for name, width, *found in colours:
        wanted = colour_of(int(name.split("/")[1].split()[0]))
        assert np.abs(np.array(found) - wanted).max() < 12, name
        assert width == 96


@needs_browser
def test_suspects_pairs_and_the_index_are_those_of_the_files(page: Page, workspace: Path) -> None:
    """Suspects, pairs and the numbers of files by state and reason are those of the files."""
    suspects = rows_of(workspace / "diagnostics/head/label_suspects.csv")
    texts = page.locator("#labels .card").all_inner_texts()
    for one, text in zip(suspects, texts, strict=True):
        assert f"label {one['label']} {float(one['probability']):.3f}" in text
        assert f"perhaps {one['preferred']} {float(one['preferred_probability']):.3f}" in text
    pairs = rows_of(workspace / "diagnostics/head/near_duplicates.csv")
    differ = ["labels differ" in text for text in page.locator("#alike li").all_inner_texts()]
    assert differ == [one["label"] != one["training_label"] for one in pairs]
    assert set(differ) == {False, True}
    assert cells(page, "#data table") == [
        ["ok", "", "40"],
        ["duplicate", "", "2"],
        ["quarantined", f"damaged: {HOSTILE}", "1"],
        ["skipped", "extension", "1"],
    ]
    text = page.inner_text("#data")
    assert "44 files, 4 classes. Images: 16 train, 4 val, 20 test. Label fixes changed the label of 3 images" in text


@needs_browser
def test_the_map_places_each_image_and_shows_its_photo(page: Page, workspace: Path) -> None:
    """Larger values lie further right and up, and the image under the pointer has its own photo and facts."""
    split = {row["digest"]: row for row in rows_of(workspace / "data/split.csv")}
    projection = rows_of(workspace / "diagnostics/projection.csv")
    places = page.eval_on_selector_all(
        "#points circle", "all => all.map(one => [one.getAttribute('cx'), one.getAttribute('cy')].map(Number))"
    )
    for axis, name, sign in ((0, "tsne_x", 1), (1, "tsne_y", -1)):
        order = np.argsort([float(row[name]) for row in projection])
        assert (np.diff(sign * np.array(places)[order, axis]) >= 0).all()
    for number in (0, 7, 25, 39):
        row = split[projection[number]["digest"]]
        page.locator("#points circle").nth(number).dispatch_event("pointerover")
        text = page.inner_text("#point")
        assert row["path"] in text
        assert f"is {row['label']}" in text
        assert ("test: " in text) == (row["split"] == "test")
        page.wait_for_function("document.querySelector('#point img').complete")
        width, *colour = page.evaluate(
            """() => {
                const image = document.querySelector("#point img");
                const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
                const context = canvas.getContext("2d");
                context.drawImage(image, 0, 0, 1, 1);
                return [image.naturalWidth, ...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
            }"""
        )
        assert np.abs(np.array(colour) - colour_of(number)).max() < 12
        assert width == 48
    page.select_option("#map-controls [name=label]", label=CLASSES[2])
    visible = page.eval_on_selector_all(
        "#points circle", "all => all.map((one, place) => one.style.display === 'none' ? -1 : place)"
    )
    labels = [split[row["digest"]]["label"] for row in projection]
    assert [place for place in visible if place >= 0] == [i for i, one in enumerate(labels) if one == CLASSES[2]]


@needs_browser
def test_the_map_shows_the_photo_under_the_pointer_and_by_keyboard(page: Page) -> None:
    """The pointer shows an image, the arrow keys go from image to image, and filters hide the others."""
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
    assert page.locator("#points circle:visible").count() == 16


@needs_browser
def test_a_suspects_line_can_be_copied(page: Page) -> None:
    """The button copies a CSV line with the path of the photo and the class that cross-validation prefers."""
    line = page.locator("#labels button.copy").first.get_attribute("data-text")
    assert line is not None
    ((_, path, label, *_),) = csv.reader([line])
    page.locator("#labels button.copy").first.click()

    assert (path, label) == ("0/0 <b>&'\".png", CLASSES[1])
    expect(page.locator("#labels button.copy").first).to_have_text(re.compile("Copied|Marked below"))
    expect(page.locator("#labels .note")).to_contain_text("python -m headstart review opens a page")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_follows_the_colour_scheme(
    browser: Browser, workspace: Path, scheme: str, width: int
) -> None:
    """Nothing is wider than the screen, and the contrast of text is at least 4.5 to 1, as WCAG asks."""
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
    """The page has no address that a browser would fetch, and every name of the data is escaped."""
    page = (workspace / "reports/index.html").read_text(encoding="utf-8")

    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page.replace("http://www.w3.org/2000/svg", "")) == []
    assert HOSTILE not in page
    assert html.escape(HOSTILE, quote=False) in page.replace("&#34;", '"')
    assert "document.title=2</script>" not in page


def test_the_page_says_which_scores_are_better(workspace: Path) -> None:
    """The page shows each score by its title with its direction, and both accuracies at the top."""
    page = (workspace / "reports/index.html").read_text(encoding="utf-8")
    for track in ("head", "finetune"):
        scores = {row["score"]: row for row in rows_of(workspace / f"plots/{track}/scores.csv")}
        value = f"{float(scores['accuracy']['value']):.3f}"

        assert f'<dt>{track}: accuracy</dt><dd class="{track}">{value} <small>' in page
        for row in scores.values():
            assert f'<th scope="row">{row["title"]}</th><td>{row["better"]}</td>' in page


def test_the_cards_have_the_numbers_of_the_files_and_no_markup(workspace: Path) -> None:
    """A model card has the scores of its track, the classes with the lowest recall, and escaped names."""
    ship = json.loads((workspace / "metrics/finetune_minus_head.json").read_text())["ship"]
    for track in ("head", "finetune"):
        card = (workspace / f"models/{track}.md").read_text(encoding="utf-8")
        scores = rows_of(workspace / f"plots/{track}/scores.csv")
        classes = sorted(rows_of(workspace / f"plots/{track}/classes.csv"), key=lambda row: float(row["recall"]))

        assert ("recommends this model" in card) == (track == ship)
        for row in scores:
            value = f"{float(row['value']):.3f}"
            assert f"| {row['title']} | {row['better']} | {value} |" in card
        assert f"| {float(classes[0]['recall']):.3f} |" in card.split("lowest recall")[1].splitlines()[4]
        assert "<" not in card
        assert "2" * 64 not in card
        assert "1" * 64 in card


def test_the_same_inputs_give_the_same_page(workspace: Path) -> None:
    """Written again, the page has the same bytes, also if training took longer."""
    path = workspace / "reports/index.html"
    before = path.read_bytes()
    write_metrics(workspace / ".cache/timings/finetune.json", {"training_seconds": 9000.0})
    run_main(workspace, "report")

    assert path.read_bytes() == before
    assert b"2 epochs of 16 images, which are 32 passes" in before


def test_missing_photos_are_named(workspace: Path, tmp_path: Path) -> None:
    """If photos are missing or changed, the page is still written and shows only their names, with a warning."""
    shutil.copytree(workspace, tmp_path / "copy")
    gone = sorted((tmp_path / "copy/data/photos").rglob("*.png"))
    for file in gone[:30]:
        file.unlink()
    gone[-1].write_bytes(b"something else")
    shutil.rmtree(tmp_path / "copy/.cache/pixels")  # else the page would show the thumbnails that are kept
    printed = run_main(tmp_path / "copy", "report")
    page = (tmp_path / "copy/reports/index.html").read_text(encoding="utf-8")

    assert "report: WARNING: 31 photos are missing or have changed" in printed
    assert "photo missing" in page


@needs_browser
def test_training_images_and_their_draws_are_shown(page: Page, workspace: Path) -> None:
    """Each strip that fine-tuning wrote is shown whole, with its label and path, and the kind of augmentation above."""
    rows = rows_of(workspace / "diagnostics/finetune_batch/images.csv")
    texts = page.locator("#batch li").all_inner_texts()
    addresses = page.eval_on_selector_all(
        "#batch img", "all => Promise.all(all.map(async (one) => { await one.decode(); return one.src; }))"
    )

    assert len(texts) == len(rows) == 6
    for row, text, address in zip(rows, texts, addresses, strict=True):
        assert f"{row['label']}: {row['path']}, 160 \u00d7 20" in re.sub("[\u2066-\u2069]", "", text)
        assert (
            base64.b64decode(address.partition(",")[2])
            == (workspace / "diagnostics/finetune_batch" / row["file"]).read_bytes()
        )
    assert "augmentation “crop”" in page.inner_text("#batch")


def test_bursts_across_the_split_are_told(workspace: Path, tmp_path: Path) -> None:
    """Look-alikes that one camera took within seconds bring the advice to keep bursts together; others do not."""
    assert "exif-burst" not in (workspace / "reports/index.html").read_text(encoding="utf-8")
    shutil.copytree(workspace, tmp_path / "copy")
    pairs = rows_of(workspace / "diagnostics/head/near_duplicates.csv")
    taken = {
        pairs[0]["digest"]: ("A", "2024-05-01T12:00:00"),
        pairs[0]["training_digest"]: ("A", "2024-05-01T11:59:50.500000"),
        pairs[1]["digest"]: ("A", "2024-05-01T12:00:00"),
        pairs[1]["training_digest"]: ("A", "2024-05-01T12:00:10"),
        pairs[2]["digest"]: ("A", "2024-05-01T12:00:00"),
        pairs[2]["training_digest"]: ("B", "2024-05-01T12:00:00"),
    }
    path = tmp_path / "copy/data/index.csv"
    rows = [replace(row, camera=camera, taken=time) for row in read_rows(path, IndexRow)
            for camera, time in [taken.get(row.digest, ("", ""))]]  # fmt: skip
    write_rows(path, rows, IndexRow)
    run_main(tmp_path / "copy", "report")
    page = (tmp_path / "copy/reports/index.html").read_text(encoding="utf-8")

    assert "1 of these pairs were taken by the same camera less than 10 seconds apart" in page
    assert "<code>dvc exp run -S split.group=exif-burst</code>" in page


def test_shifted_pictures_have_a_chart_and_a_table(workspace: Path, tmp_path: Path) -> None:
    """The section shows what the check measured; where nothing was checked, it says how to."""
    page = (workspace / "reports/index.html").read_text(encoding="utf-8")
    section = page.split('<section id="shifted"')[1].split("</section>")[0]
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall("<tr><th scope=.row.*?</tr>", section)]
    values = ["0.600", "0.500", "to", "0.700"], ["0.800", "0.700", "to", "0.900"]
    ships_head = 'Use <em class="head">' in page
    ordered = [word for one in (values if ships_head else values[::-1]) for word in one]

    assert "The same 20 test images" in section
    assert rows[0] == ["unshifted", "&lt;b&gt;", *ordered, "+0.200", "+0.100", "to", "+0.300", "0.010"]
    assert rows[-1][:4] == ["mean", "of", "the", "shifts"]
    assert rows[-1][-1] == "+0.200"
    assert section.count("<circle") == 4

    shutil.copytree(workspace, tmp_path / "copy")
    write_robustness(tmp_path / "copy/diagnostics/robustness.json", Robustness(0, [], None, None))
    run_main(tmp_path / "copy", "report")
    assert "Not checked, because" in (tmp_path / "copy/reports/index.html").read_text(encoding="utf-8")


def test_evaluate_and_compare_count_what_they_say(workspace: Path) -> None:
    """Distinct images look like no training image, training images include val, and each track has its accuracy."""
    alike = {row["digest"] for row in rows_of(workspace / "diagnostics/head/near_duplicates.csv")}
    advice = json.loads((workspace / "diagnostics/advice.json").read_text(encoding="utf-8"))
    accuracies = []
    for track in ("head", "finetune"):
        rows = guesses(workspace, track)
        right = {digest: label == predicted for digest, (label, predicted, _) in rows.items()}
        distinct = [hit for digest, hit in right.items() if digest not in alike]
        numbers = json.loads((workspace / f"diagnostics/{track}_scores.json").read_text(encoding="utf-8"))
        assert (numbers["num_images"], numbers["num_distinct"]) == (20, 17)
        assert numbers["accuracy"] == pytest.approx(np.mean(list(right.values())))
        assert numbers["distinct_accuracy"] == pytest.approx(np.mean(distinct), abs=1e-6)
        accuracies.append(numbers["accuracy"])
    assert accuracies[0] != accuracies[1]
    assert f"of the head is {accuracies[0]:.3f}, that of fine-tuning {accuracies[1]:.3f}" in advice["ship"]["why"]
    assert "20 training images of 4 classes" in advice["size"]["why"]


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("diagnostics/advice.json", lambda text: text.replace('"rule"', '"role"'), "diagnostics/advice.json: rule"),
        ("metrics/finetune_minus_head.json", lambda text: text.replace('"ship"', '"shop"'), "has no ship"),
        ("metrics/finetune_minus_head.json", lambda text: re.sub('"ship": ".*"', '"ship": "x"', text), "ship is 'x'"),
        ("models/head/config.json", lambda text: text.replace('"layers"', '"tips"'), "config.json: layers: missing"),
        ("predictions/head.csv", lambda text: text[: text.rindex("\n", 0, -1) + 1], "1 images are not in predictions"),
        ("diagnostics/projection.csv", lambda text: text + "f" * 64 + ",0,0,0,0\n", "1 images are not in data/index"),
        ("diagnostics/finetune_batch/images.csv", lambda text: text.replace("1.web", "9.web"), "9.webp: cannot"),
        ("diagnostics/robustness.json", lambda text: text.replace('"p_value"', '"p"'), "robustness.json: conditions.0"),
        ("plots/head/classes.csv", lambda text: text.replace("gnp", "y"), "does not fit predictions"),
    ],
)  # fmt: skip
def test_a_file_that_is_damaged_or_of_another_run_is_named(
    workspace: Path, tmp_path: Path, name: str, damage: Callable[[str], str], told: str
) -> None:
    """The page is not written from files that do not fit each other, and the message names the file."""
    shutil.copytree(workspace, tmp_path / "copy")
    path = tmp_path / "copy" / name
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "stages.report"],
        cwd=tmp_path / "copy",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
