"""Make docs/images/report.png, the picture of the report in the README: `python -m docs.screenshot`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

REPORT, PICTURE = Path("reports/index.html"), Path("docs/images/report.png")
_SIZE = (1280, 1060)


def main() -> None:
    """Open the report in Chromium, and keep what a reader sees first, in few colours so that the file stays small."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not REPORT.is_file():
        sys.exit(f"screenshot: needs Chromium on PATH and {REPORT} (run: make)")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        window = f"--window-size={_SIZE[0]},{_SIZE[1]}"
        address = REPORT.resolve().as_uri()
        subprocess.run(  # noqa: S603 - our own words
            [chromium, *options, window, f"--screenshot={shot}", address], check=True, capture_output=True
        )
        picture = Image.open(shot).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    picture.save(PICTURE, optimize=True)
    print(f"screenshot: {PICTURE}, {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
