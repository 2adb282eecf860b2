"""The stage `index`, cold and with no new file, against a plain loop with Pillow; peak memory.

The photos are small; with `--megapixels` they are large.

python -m benchmarks.index [--photos FOLDER] [--num-photos 100000] [--short-side-px 224] [--megapixels 12]
    [--num-rounds 3]
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.memory import peak_bytes
from benchmarks.options import add_photo_options, add_rounds_option, add_size_option, make_parser
from benchmarks.photo_set import photo_bytes
from benchmarks.rounds import describe_ratios, machine, seconds_of, take_turns
from benchmarks.workspace import ROOT, write_params
from headstart.tables.index import IndexRow
from headstart.tables.rows import read_rows

NUM_FOLDERS = 100


def small_photos(source: Path | None, px: int) -> list[bytes]:
    """Return JPEG files with a short side of `px` pixels, as small versions of data sets have."""
    small = []
    for data in photo_bytes(source):
        with Image.open(io.BytesIO(data)) as image:
            scale = px / min(image.size)
            resized = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
        buffer = io.BytesIO()
        resized.save(buffer, "JPEG", quality=85)
        small.append(buffer.getvalue())
    return small


def write_photos(folder: Path, photos: Sequence[bytes], num: int) -> None:
    """Write `num` files with different digests."""
    for number in range(num):
        path = folder / f"class {number % NUM_FOLDERS:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photos[number % len(photos)] + f"copy {number}".encode())
    print(f"{num} photos, {sum(map(len, photos)) / len(photos) / 1000:.1f} kB each on average", flush=True)


def plain_loop(folder: Path) -> int:
    """Read, hash and decode every file, one after the other, as a script would; return the number of files."""
    found = []
    for path in sorted(folder.rglob("*.jpg")):
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        with Image.open(io.BytesIO(data)) as image:
            image.convert("RGB")
            found.append((str(path), digest, image.size))
    return len(found)


def main() -> None:
    """Measure, and print."""
    parser = make_parser(__doc__)
    add_photo_options(parser, 100_000)
    text = "short side of the photos in pixels (default: %(default)s)"
    parser.add_argument("--short-side-px", type=int, default=224, help=text)
    add_size_option(parser)
    add_rounds_option(parser)
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if given.megapixels is None:
            photos = small_photos(given.photos, given.short_side_px)
        else:
            photos = photo_bytes(given.photos, given.megapixels)
        write_photos(root / "data/photos", photos, given.num_photos)
        write_params(root, "data/photos")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": name}
        command = [sys.executable, "-m", "stages.index"]
        time.sleep(3)  # the stage reads a file again if it was written within the last seconds

        def stage() -> float:
            quiet = subprocess.DEVNULL
            work = lambda: subprocess.run(command, cwd=root, env=environment, check=True, stdout=quiet, stderr=quiet)  # noqa: E731
            return given.num_photos / seconds_of(work)

        def cold() -> float:
            shutil.rmtree(root / ".cache", ignore_errors=True)
            return stage()

        contestants = {
            "plain loop": lambda: given.num_photos / seconds_of(lambda: plain_loop(root / "data/photos")),
            "the stage, cold": cold,
            "the stage, no new file": stage,
        }
        results = take_turns(contestants, given.num_rounds)
        print(f"files/s, and times the plain loop:\n{describe_ratios(results, 'plain loop')}")
        assert len(read_rows(root / "data/index.csv", IndexRow)) == given.num_photos
        for words in ("cold", "no new file"):
            if words == "cold":
                shutil.rmtree(root / ".cache")
            print(
                f"peak memory of all processes, {words}: {peak_bytes(command, root, environment) / 2**20:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
