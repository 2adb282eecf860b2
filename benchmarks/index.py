"""The index of many small photos: cold, and with nothing new, against a plain loop in one process with Pillow."""

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from ruamel.yaml import YAML

from benchmarks.memory import peak_bytes
from benchmarks.photo_set import photo_bytes
from benchmarks.rounds import describe_ratios, machine, seconds_of, take_turns
from headstart.tables.index import IndexRow
from headstart.tables.rows import read_rows
from tests.support.source import ROOT

NUM_FOLDERS = 100


def write_small_photos(folder: Path, source: Path | None, num: int, px: int) -> None:
    """Write distinct JPEG files with a short side of so many pixels, as small versions of photo sets have."""
    small = []
    for data in photo_bytes(source):
        with Image.open(io.BytesIO(data)) as image:
            scale = px / min(image.size)
            resized = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
        buffer = io.BytesIO()
        resized.save(buffer, "JPEG", quality=85)
        small.append(buffer.getvalue())
    for number in range(num):
        path = folder / f"class {number % NUM_FOLDERS:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small[number % len(small)] + f"copy {number}".encode())
    print(f"{num} photos, {sum(map(len, small)) / len(small) / 1000:.1f} kB each on average", flush=True)


def plain_loop(folder: Path) -> int:
    """Read, hash and decode every file, one after the other, as a script would; return how many."""
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of real JPEG photos; generated ones if not given")
    parser.add_argument("--num", type=int, default=100_000, help="files")
    parser.add_argument("--px", type=int, default=224, help="short side of the photos")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_small_photos(root / "data/photos", arguments.photos, arguments.num, arguments.px)
        yaml = YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["data"]["path"] = "data/photos"
        with (root / "params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(params, file)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": name}
        command = [sys.executable, "-m", "stages.index"]
        time.sleep(3)  # a file that was just written is not trusted yet

        def stage() -> float:
            quiet = subprocess.DEVNULL
            work = lambda: subprocess.run(command, cwd=root, env=environment, check=True, stdout=quiet, stderr=quiet)  # noqa: E731
            return arguments.num / seconds_of(work)

        def cold() -> float:
            shutil.rmtree(root / ".cache", ignore_errors=True)
            return stage()

        contestants = {
            "plain loop": lambda: arguments.num / seconds_of(lambda: plain_loop(root / "data/photos")),
            "the stage, cold": cold,
            "the stage, nothing new": stage,
        }
        results = take_turns(contestants, arguments.rounds)
        print(f"files/s, and times the plain loop:\n{describe_ratios(results, 'plain loop')}")
        assert len(read_rows(root / "data/index.csv", IndexRow)) == arguments.num
        for words in ("cold", "with nothing new"):
            if words == "cold":
                shutil.rmtree(root / ".cache")
            print(
                f"memory, all processes, {words}: {peak_bytes(command, root, environment) / 2**20:.0f} MiB", flush=True
            )


if __name__ == "__main__":
    main()
