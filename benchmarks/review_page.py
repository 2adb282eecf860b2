"""The review page of many images in a browser: seconds to start, and milliseconds of a frame while somebody scrolls.

python -m benchmarks.review_page [--photos FOLDER] [--num-images 100000] [--num-frames 600]

The server is the command itself, in a process of its own, over a project of small photos with made-up results. Chromium
has no GPU here.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.options import make_parser
from benchmarks.photo_set import photo_bytes
from benchmarks.review import write_many
from benchmarks.workspace import ROOT

# How far each frame scrolls, in pixels: a line of thumbnails is 200 high.
_SPEEDS = {"slowly": 20, "quickly": 200, "very quickly": 2000}
# Scrolls by a step each frame. Of each frame: milliseconds since the last one, and what script and layout took.
_SCROLL = """([step, count]) => new Promise((done) => {
  const grid = document.getElementById("grid");
  const gaps = [], works = [];
  let last = 0;
  const frame = (now) => {
    if (last) gaps.push(now - last);
    last = now;
    if (gaps.length === count) return done([gaps, works]);
    grid.scrollTop += step;
    const start = performance.now();
    const channel = new MessageChannel();
    channel.port1.onmessage = () => works.push(performance.now() - start);
    channel.port2.postMessage(0);  // arrives when this frame is drawn
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})"""
_ALL_DRAWN = """() => {
  const box = document.getElementById("grid").getBoundingClientRect();
  const cells = [...document.querySelectorAll(".cell")].filter((cell) => {
    const place = cell.getBoundingClientRect();
    return place.bottom > box.top && place.top < box.bottom;
  });
  return cells.length > 0 && cells.every((cell) => cell.querySelector("img")?.naturalWidth > 0);
}"""


def main() -> None:
    """Measure, and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--photos", type=Path, help="folder of real JPEG photos to reduce (default: generated ones)")
    parser.add_argument("--num-images", type=int, default=100_000, help="number of images (default: %(default)s)")
    parser.add_argument("--num-frames", type=int, default=600, help="frames of each speed (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_many(root / "project", given.num_images, photo_bytes(given.photos))
        start = time.monotonic()
        with _command(root / "project") as address, sync_playwright() as playwright:
            print(f"{given.num_images} images: the address after {time.monotonic() - start:.1f} s", flush=True)
            path = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            start = time.monotonic()
            page.goto(f"{address}#queue=random&at=0&image=")
            page.wait_for_function(_ALL_DRAWN)
            print(f"the first photos {time.monotonic() - start:.2f} s later", flush=True)
            _measure(page, given.num_frames)
            browser.close()


@contextmanager
def _command(root: Path) -> Iterator[str]:
    words = [sys.executable, "-m", "headstart", "review", "--no-browser", "--who", "benchmark"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=root, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        try:
            yield next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
        finally:
            server.terminate()


def _measure(page: Page, num_frames: int) -> None:
    for speed, step in _SPEEDS.items():
        gaps, works = page.evaluate(_SCROLL, [step, num_frames])
        print(f"scrolling {speed}: {_describe(gaps)} between frames, {_describe(works)} of work in each", flush=True)
    seconds = []
    for share in (0.13, 0.77, 0.42, 0.91, 0.28, 0.66):
        page.evaluate("(share) => { const grid = document.getElementById('grid');"
                      " grid.scrollTop = share * grid.scrollHeight; }", share)  # fmt: skip
        start = time.monotonic()
        page.wait_for_function(_ALL_DRAWN)
        seconds.append(time.monotonic() - start)
    print(f"all photos after a jump: median {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s")
    seconds = []
    page.keyboard.press("Home")
    page.wait_for_function(_ALL_DRAWN)
    for _ in range(20):
        start = time.monotonic()
        page.keyboard.press("2")
        page.wait_for_function("() => !document.body.classList.contains('saving')")
        seconds.append(time.monotonic() - start)
    print(f"a decision, from the key to the server's answer: {_describe([1000 * one for one in seconds])}")
    memory = page.evaluate("performance.memory.usedJSHeapSize / 2 ** 20")
    print(f"memory of the page's script: {memory:.0f} MiB; elements: {page.evaluate('document.all.length')}")


def _describe(milliseconds: Sequence[float]) -> str:
    ordered = sorted(milliseconds)
    p99 = ordered[len(ordered) * 99 // 100]
    return f"median {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms, at most {ordered[-1]:.1f} ms"


if __name__ == "__main__":
    main()
