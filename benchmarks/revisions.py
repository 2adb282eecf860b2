"""Comparing revisions: seconds for two revisions of this project, and for 20 with 10,000 test images each.

python -m benchmarks.revisions [--num-rounds 5] [--num-images 10000]

The rival is `dvc metrics diff`, which subtracts numbers and tests nothing.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.options import add_rounds_option, make_parser
from benchmarks.rounds import describe_ratios, machine, seconds_of, take_turns
from benchmarks.workspace import ROOT
from headstart.tables.predictions import Predictions, write_predictions

_NUM_REVISIONS, _NUM_CLASSES = 21, 10


def make_history(root: Path, num_images: int) -> list[str]:
    """Make a project with 21 commits, whose predictions are right about 80 to 84 % of the images. Return its tags.

    Args:
        root: Folder of the project.
        num_images: Number of test images.
    """
    run = partial(subprocess.run, cwd=root, check=True, stdout=subprocess.DEVNULL)
    for command in ("git init -q", "git config user.email bench@example.com", "git config user.name Bench"):
        run(command.split())
    run([sys.executable, "-m", "dvc", "init", "-q"])
    (root / "params.yaml").write_text("intervals: {resamples: 1000, seed: 0}\n")
    classes = [f"class {number}" for number in range(_NUM_CLASSES)]
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(num_images)]
    paths = [f"photos/{number}.jpg" for number in range(num_images)]
    targets = np.arange(num_images) % _NUM_CLASSES
    tags = [f"v{number}" for number in range(_NUM_REVISIONS)]
    for number, tag in enumerate(tags):
        random = np.random.default_rng(number)
        logits = random.normal(size=(num_images, _NUM_CLASSES))
        is_right = random.random(num_images) < 0.8 + 0.002 * number
        logits[np.arange(num_images), np.where(is_right, targets, (targets + 1) % _NUM_CLASSES)] += 6
        write_predictions(
            root / "head.csv", Predictions(digests, paths, [classes[target] for target in targets], classes, logits)
        )
        data = (root / "head.csv").read_bytes()
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        cached = root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        (root / "head.csv").rename(cached)
        head = {"cmd": "true", "outs": [{"path": "predictions/head.csv", "hash": "md5", "md5": md5, "size": len(data)}]}
        (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"head": head}}))
        run(["git", "add", "dvc.lock", "params.yaml"])
        run(["git", "commit", "-q", "-m", tag])
        run(["git", "tag", tag])
    return tags


def command(root: Path, words: Sequence[str]) -> Callable[[], float]:
    """Return a function that runs a module of this project in a folder, and returns the seconds that it takes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole = [sys.executable, "-m", *words]
    run = partial(subprocess.run, whole, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    return lambda: seconds_of(run)


def main() -> None:
    """Measure in turn, and print."""
    parser = make_parser(__doc__)
    add_rounds_option(parser, 5)
    parser.add_argument("--num-images", type=int, default=10_000, help="test images (default: %(default)s)")
    given = parser.parse_args()
    print(machine())
    rival = "dvc metrics diff"
    contestants = {
        "headstart compare": command(ROOT, ["headstart", "compare", "HEAD"]),
        rival: command(ROOT, ["dvc", "metrics", "diff", "HEAD"]),
    }
    print("this project, HEAD and the working tree, seconds:")
    print(describe_ratios(take_turns(contestants, given.num_rounds), rival))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tags = make_history(root, given.num_images)
        one, many = f"2 revisions, {given.num_images} images", f"{_NUM_REVISIONS} revisions, ranked"
        contestants = {
            one: command(root, ["headstart", "compare", *tags[:2]]),
            many: command(root, ["headstart", "compare", *tags]),
        }
        print(describe_ratios(take_turns(contestants, given.num_rounds), one))


if __name__ == "__main__":
    main()
