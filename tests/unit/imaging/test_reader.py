"""The reader's memory: how many pictures may be decoded at once, and what large ones take."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from headstart.imaging.clock import peak_memory_bytes
from headstart.imaging.reader import memory_for_decoding


@pytest.mark.parametrize(("device", "beside_each_other"), [("cpu", False), ("cuda:0", True)])
def test_the_libraries_of_a_gpu_leave_memory_for_decoding(device: str, *, beside_each_other: bool) -> None:
    """Where libraries hold more than `runtime.memory`, a CPU decodes one picture at a time, a GPU several."""
    memory = peak_memory_bytes() // 2
    budget = memory_for_decoding(memory, device)
    second = threading.Event()

    def decode() -> None:
        with budget.hold(memory // 4):
            second.set()

    thread = threading.Thread(target=decode)
    with budget.hold(memory // 4):
        thread.start()
        assert second.wait(0.2) == beside_each_other
    thread.join()
    assert second.is_set()


_READ = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from headstart.imaging.clock import Clock
from headstart.imaging.reader import MemoryBudget, Reader
from headstart.imaging.transform import Transform, View
from headstart.sources.folder import Folder
path, min_side_px = Path(sys.argv[1]), eval(sys.argv[2])
transform = Transform(256, 224, False, "bicubic", (0.5,) * 3, (0.5,) * 3)
reader = Reader(
    Folder(path.parent), transform, [View(None, False)], MemoryBudget(2**26), Clock(), min_side_px=min_side_px
)
data = path.read_bytes()

def peak_kib():  # getrusage would count the parent's memory at the fork
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak_kib()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: reader.views_of(data, 2 * 10**8), range(4)))
print(1024 * (peak_kib() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize(("min_side_px", "least", "most"), [(512, 0, 40), (None, 48, 10_000)])
def test_photos_of_48_megapixels_take_little_memory(
    tmp_path: Path, min_side_px: int | None, least: int, most: int
) -> None:
    """Four at once, reduced when they are decoded, take less than a byte for each of their pixels, in MB."""
    path = tmp_path / "photo.jpg"
    Image.new("L", (8000, 6000), 99).save(path)
    command = [sys.executable, "-c", _READ, str(path), str(min_side_px)]
    num_bytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert least * 10**6 <= num_bytes < most * 10**6


_COUNT = """
import io, sys
from pathlib import Path
from PIL import Image
from headstart.imaging.decode import decode, read_header

def resident_kib(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])

for kind, mode in [one.split("-") for one in sys.argv[1:]]:
    file = io.BytesIO()
    small = Image.linear_gradient("L").convert("RGBA")
    small.putalpha(Image.radial_gradient("L"))
    small.resize((2000, 1500)).convert(mode).save(file, kind)
    data, file = file.getvalue(), None
    decode(data, 10**8)  # what the decoder allocates once
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = resident_kib("VmRSS")
    decode(data, 10**8)
    print((resident_kib("VmHWM") - before) * 1024 / 3e6, read_header(data, 10**8).bytes_per_pixel)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_a_picture_takes_no_more_memory_than_its_header_promises() -> None:
    """Whatever the format and the kind of pixels, the estimate is above the peak, and at most six times as much."""
    kinds = ["PNG-RGB", "PNG-RGBA", "PNG-LA", "PNG-P", "JPEG-RGB", "WEBP-RGB", "WEBP-RGBA", "AVIF-RGBA", "TIFF-CMYK"]
    command = [sys.executable, "-c", _COUNT, *kinds]
    exact = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc gives freed memory back at once
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=exact)
    lines = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]

    assert len(lines) == len(kinds)
    for kind, (found, promised) in zip(kinds, lines, strict=True):
        assert found <= promised <= 6 * found, kind
