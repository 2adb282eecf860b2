"""The whole stage `extract`: cold, then with no new image (imports, canary, sample, features file); peak memory.

python -m benchmarks.warm [--photos FOLDER] [--num-photos 10000]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.options import add_photo_options, make_parser
from benchmarks.photo_set import make_photo_set
from benchmarks.rounds import machine
from benchmarks.workspace import ROOT, write_params
from headstart.tables.index import IndexRow
from headstart.tables.rows import write_rows


def run_stage(project: Path) -> tuple[float, float, str]:
    """Run `python -m stages.extract`; return its seconds, the peak MiB of its largest process, and its output."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "stages.extract"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output
    return time.perf_counter() - start, usage.ru_maxrss / 1024, output


def main() -> None:
    """Write photos and a project, run the stage with an empty store, then three times with a full one."""
    parser = make_parser(__doc__)
    add_photo_options(parser, 10_000)
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        rows = make_photo_set(project / "data" / "photos", given.photos, given.num_photos)
        write_rows(project / "data" / "index.csv", rows, IndexRow)
        write_params(project, "data/photos")
        for name in ("cold, with export", "no new image", "no new image", "no new image"):
            seconds, peak, output = run_stage(project)
            print(f"{name}: {seconds:.1f} s, peak {peak:.0f} MiB\n{output.strip()}", flush=True)


if __name__ == "__main__":
    main()
