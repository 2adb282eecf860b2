"""Make the pictures of the pages in docs/images/: `python -m docs.screenshot`."""

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

REPORT, IMAGES = Path("reports/index.html"), Path("docs/images")


def main() -> None:
    """Open the report and the review page in Chromium, and keep what a reader sees first."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not REPORT.is_file():
        sys.exit(f"screenshot: needs Chromium on PATH and {REPORT} (run: make)")
    with sync_playwright() as playwright, _review() as address:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        _shoot(browser, REPORT.resolve().as_uri(), "report", (1280, 1060))
        _shoot(browser, f"{address}#queue=suspects", "review", (1280, 760))
        _shoot(browser, f"{address}#queue=suspects", "review_phone", (360, 740), scheme="dark")
        browser.close()


@contextmanager
def _review() -> Iterator[str]:
    """Serve the review page of this project; yields its address."""
    words = [sys.executable, "-m", "headstart", "review", "--no-browser", "--who", "ann"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own words
        assert server.stderr is not None
        try:
            lines = ""
            while not (found := re.search(r"http://\S+", lines)):
                line = server.stderr.readline()
                if not line:
                    sys.exit(f"screenshot: the review page did not start: {lines}")
                lines += line
            yield found[0]
        finally:
            server.terminate()


def _shoot(
    browser: Browser, address: str, name: str, size: tuple[int, int], scheme: Literal["light", "dark"] = "light"
) -> None:
    """Write a picture in few colours, so that the file stays small."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.goto(address, wait_until="networkidle")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    page.close()
    path = IMAGES / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)
    print(f"screenshot: {path}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
