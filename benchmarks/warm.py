"""A warm run of the whole stage with nothing new: start, canary, audit, assembly; and its peak memory, warm and cold.

python -m benchmarks.warm [--photos FOLDER] [--num 10000]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.photo_set import make_photo_set
from benchmarks.rounds import machine
from headstart.tables.index import IndexRow
from headstart.tables.rows import write_rows

ROOT = Path(__file__).parents[1]


def run_stage(project: Path) -> tuple[float, float, str]:
    """Run `python -m stages.extract`; return seconds, peak memory in MiB (the largest of its processes), and output."""
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
    """Make a project around a photo set, run the stage cold, then warm three times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--num", type=int, default=10_000)
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        rows = make_photo_set(project / "data" / "photos", given.photos, given.num)
        write_rows(project / "data" / "index.csv", rows, IndexRow)
        yaml = YAML()
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["data"]["path"] = "data/photos"
        with (project / "params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(params, file)
        for name in ("export and cold", "warm", "warm", "warm"):
            seconds, peak, output = run_stage(project)
            print(f"{name}: {seconds:.1f} s, peak {peak:.0f} MiB\n{output.strip()}", flush=True)


if __name__ == "__main__":
    main()
