"""The loop of trying heads: `dvc repro` after an edit of `head.*`, and where each second goes.

python -m benchmarks.loop [--rounds 5]
"""

import argparse
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.rounds import best_and_spread, machine, seconds_of

ROOMS = {
    "head": "stages.core.params, stages.core.bundle, stages.head.params, stages.head.results, stages.head.train",
    "evaluate": "stages.core.params, stages.evaluate.params, stages.evaluate.plots, stages.evaluate.scores",
}


def main() -> None:
    """Edit `head.c` in a clone that shares DVC's cache, and time DVC, the rooms alone and their imports, in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "project"
        run = partial(subprocess.run, check=True, cwd=clone, stdout=subprocess.PIPE)
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)  # noqa: S607
        run(["dvc", "config", "--local", "cache.dir", str(Path(".dvc/cache").absolute())])
        run(["dvc", "checkout", "--quiet", "index", "split", "extract", "head"])
        seconds: dict[str, list[float]] = {}
        for number in range(given.rounds):
            params = (clone / "params.yaml").read_text(encoding="utf-8")
            edited = re.sub(r"(?m)^  c: .*$", f"  c: {0.5 + number / 100}", params)
            (clone / "params.yaml").write_text(edited, encoding="utf-8")
            work = {"dvc repro": ["dvc", "repro", "--allow-missing"]}
            work |= {
                room: [sys.executable, "-m", f"stages.{room}", *(["head"] * (room == "evaluate"))] for room in ROOMS
            }
            work |= {f"imports of {room}": [sys.executable, "-c", f"import {names}"] for room, names in ROOMS.items()}
            for what, command in work.items():
                seconds.setdefault(what, []).append(seconds_of(partial(run, command)))
    print(machine())
    for what, values in seconds.items():
        median, spread = best_and_spread(values)
        print(f"  {what:<22} {median:6.2f} s (+-{100 * spread:.0f} %)")


if __name__ == "__main__":
    main()
