"""The report of many images: seconds to make it, its size, and seconds until a browser has opened it.

python -m benchmarks.report [--photos FOLDER] [--num-photos 10000]
"""

import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.options import add_photo_options, make_parser
from benchmarks.photo_set import make_photo_set
from benchmarks.workspace import run_main, write_params, write_results
from headstart.tables.split import SplitRow

NUM_CLASSES = 20


def main() -> None:
    """Measure, and print."""
    parser = make_parser(__doc__)
    add_photo_options(parser, 10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        index = make_photo_set(root / "data/photos", given.photos, given.num_photos)
        write_params(root, "data/photos")
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
        print(f"{given.num_photos} images: made in {seconds:.1f} s, {page.stat().st_size / 1e6:.1f} MB")
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
