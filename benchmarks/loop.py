"""Trying heads: seconds of `dvc repro` after an edit of `head.c`, of each stage alone, and of its imports.

python -m benchmarks.loop [--num-rounds 5]
"""

import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.options import add_rounds_option, make_parser
from benchmarks.rounds import machine, median_and_spread, seconds_of

CACHED = ("index", "split", "extract", "head", "finetune", "evaluate@finetune", "projection")
STAGES = {"head": [], "evaluate": ["head"], "compare": [], "report": []}


def imports_of(stage: str) -> str:
    """Return a statement with the imports that a stage's `main` has inside."""
    main = Path(f"stages/{stage}/__main__.py").read_text(encoding="utf-8")
    return "import " + ", ".join(re.findall(r"(?m)^    from (stages\.[\w.]+) import", main))


def main() -> None:
    """Edit `head.c` in a clone that shares DVC's cache; then time DVC, each stage alone, and its imports, in turn.

    The clone lacks the photos, so `robustness` checks nothing in it.
    """
    parser = make_parser(__doc__)
    add_rounds_option(parser, 5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "project"
        run = partial(subprocess.run, check=True, cwd=clone, stdout=subprocess.PIPE)
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)  # noqa: S607
        run(["dvc", "config", "--local", "cache.dir", str(Path(".dvc/cache").absolute())])
        run(["dvc", "checkout", "--quiet", *CACHED])
        seconds: dict[str, list[float]] = {}
        for _ in range(given.num_rounds):
            params = (clone / "params.yaml").read_text(encoding="utf-8")
            new = round(0.5 + time.time() % 1, 6)  # a value that DVC's run cache does not have
            edited = re.sub(r"(?m)^  c: .*$", f"  c: {new}", params)
            (clone / "params.yaml").write_text(edited, encoding="utf-8")
            work = {"dvc repro": ["dvc", "repro", "--allow-missing"]}
            work |= {stage: [sys.executable, "-m", f"stages.{stage}", *words] for stage, words in STAGES.items()}
            work |= {f"imports of {stage}": [sys.executable, "-c", imports_of(stage)] for stage in STAGES}
            for what, command in work.items():
                seconds.setdefault(what, []).append(seconds_of(partial(run, command)))
    print(machine())
    for what, values in seconds.items():
        median, spread = median_and_spread(values)
        print(f"  {what:<22} {median:6.2f} s (+-{100 * spread:.0f} %)")


if __name__ == "__main__":
    main()
