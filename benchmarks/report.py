"""The report of a large data set: how long it takes to make, how large it is, how long a browser takes to open it."""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.photo_set import make_photo_set
from headstart.tables.split import SplitRow
from tests.support.source import ROOT
from tests.support.workspace import run_main, write_results

NUM_CLASSES = 20


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of real JPEG photos; generated ones if not given")
    parser.add_argument("--num", type=int, default=10_000, help="images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        index = make_photo_set(root / "data/photos", arguments.photos, arguments.num)
        params = (ROOT / "params.yaml").read_text(encoding="utf-8")
        (root / "params.yaml").write_text(params.replace("path: data/digits", "path: data/photos"), encoding="utf-8")
        classes = [f"class {number:02}" for number in range(NUM_CLASSES)]
        split = [
            SplitRow(row.digest, row.path, classes[number % NUM_CLASSES], "train" if number % 4 else "test", row.digest)
            for number, row in enumerate(sorted(index, key=lambda row: row.digest))
        ]
        write_results(root, index, split, classes, "middle", num_suspects=500)
        start = time.monotonic()
        run_main(root, "report")
        seconds = time.monotonic() - start
        page = root / "reports/index.html"
        print(f"{arguments.num} images: made in {seconds:.1f} s, {page.stat().st_size / 1e6:.1f} MB")
        print(f"opened and drawn in {_seconds_to_open(page):.2f} s")


def _seconds_to_open(page: Path) -> float:
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page()
        start = time.monotonic()
        opened.goto(page.as_uri())
        opened.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seconds = time.monotonic() - start
        browser.close()
    return seconds


if __name__ == "__main__":
    main()
