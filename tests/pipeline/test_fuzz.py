"""The index lists twenty thousand damaged and hostile images, one row for each, in bounded memory and time."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.tables.index import IndexRow
from headstart.tables.rows import read_rows
from tests.support.project import Project
from tests.support.source import ROOT

NUM = 20_000
MAX_PIXELS = 4_000_000
MEMORY = 2**28  # bytes of each process, including the interpreter and its libraries
TIMEOUT_SECONDS = 420


def seeds() -> list[bytes]:
    """Return small valid files of every format and of several kinds of pixels."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, size=(24, 32, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    several: dict[str, Any] = {"save_all": True, "append_images": [image.rotate(90)]}
    files: list[tuple[str, Image.Image, dict[str, Any]]] = [
        *(("JPEG", image, {"exif": exif}), ("JPEG", image.convert("CMYK"), {}), ("JPEG", image, {"progressive": True})),
        *(("PNG", image, {}), ("PNG", image.quantize(16), {"transparency": 1}), ("PNG", image, several)),
        *(("GIF", image.quantize(8), several), ("BMP", image, {}), ("BMP", image.quantize(16), {})),
        *(("TIFF", image, {"compression": "tiff_lzw"}), ("TIFF", image, several), ("TIFF", image.convert("1"), {})),
        *(("WEBP", image, {"lossless": True}), ("WEBP", image.convert("RGBA"), {"exif": exif})),
    ]
    encoded = []
    for kind, one, options in files:
        buffer = io.BytesIO()
        one.save(buffer, kind, **options)
        encoded.append(buffer.getvalue())
    return encoded


def mutated(random: np.random.Generator, files: list[bytes]) -> bytes:
    """Return a file with cut, flipped, spliced, inserted or extreme bytes."""
    data = bytearray(files[random.integers(len(files))])
    for _ in range(random.integers(1, 5)):
        place, length = int(random.integers(len(data))), int(random.integers(1, 9))
        match random.integers(6):
            case 0:
                data[place] ^= 1 << int(random.integers(8))
            case 1:
                data[place : place + length] = random.bytes(length)
            case 2:
                del data[place : place + length * 8]
            case 3:
                extremes = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"\x80\0\0\0")
                extreme = extremes[random.integers(len(extremes))]
                data[place : place + 4] = extreme
            case 4:
                other = files[random.integers(len(files))]
                data[place:place] = other[int(random.integers(len(other))) :][: length * 16]
            case _:
                del data[place:]
        data = data or bytearray(b"\0")
    return bytes(data)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_no_file_breaks_the_index(tmp_path: Path) -> None:
    """For any bytes the stage succeeds, lists every file once, and no process needs more than `MEMORY`."""
    random, files = np.random.default_rng(1), seeds()
    folder = tmp_path / "data" / "odd" / "a"
    folder.mkdir(parents=True)
    suffixes = ("jpg", "png", "gif", "bmp", "tif", "webp")
    for number in range(NUM):
        (folder / f"{number:05}.{suffixes[number % len(suffixes)]}").write_bytes(mutated(random, files))
    (folder / "good.png").write_bytes(files[3])
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Project(tmp_path).edit_params(
        data={"path": "data/odd"},
        index={"extensions": list(suffixes), "max_pixels": MAX_PIXELS, "max_bad_fraction": 1.0},
        runtime={"workers": 2},
    )
    code = (
        "import json, re, resource, runpy\n"
        "if __name__ == '__main__':\n"
        "    runpy.run_module('stages.index', run_name='__main__')\n"
        # Not getrusage of this process: Linux hands it down from the process that started this one.
        "    own = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "    print(json.dumps([own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))\n"
    )
    (tmp_path / "measured.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "measured.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rows = read_rows(tmp_path / "data/index.csv", IndexRow)
    assert len(rows) == NUM + 1
    states = {row.status for row in rows}
    assert {"ok", "repaired", "duplicate", "quarantined"} == states
    for peak_kib in json.loads(done.stdout.splitlines()[-1]):
        assert peak_kib * 1024 < MEMORY
