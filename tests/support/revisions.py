"""A tiny project with git and DVC, whose predictions are written by hand, for the comparison of revisions."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from headstart.tables.predictions import Predictions, write_predictions
from headstart.tables.rows import write_rows
from headstart.tables.split import SplitRow
from tests.support.project import Project

CLASSES = ("ant", "bee", "cat")


def predictions(
    right: Sequence[bool], *, first: int = 0, classes: Sequence[str] = CLASSES, seed: int = 0
) -> Predictions:
    """Return predictions that are right about some images.

    Args:
        right: Whether they are right about each image.
        first: Number of the first image.
        classes: Names of the classes. Image i is of class i modulo their number.
        seed: Seed of how sure they are.
    """
    numbers = range(first, first + len(right))
    targets = [number % len(classes) for number in numbers]
    random = np.random.default_rng(seed)
    logits = random.uniform(-1, 0, size=(len(right), len(classes)))
    for row, (target, is_right) in enumerate(zip(targets, right, strict=True)):
        logits[row, target if is_right else (target + 1) % len(classes)] = random.uniform(0.5, 3)
    labels = [classes[target] for target in targets]
    return Predictions([digest(one) for one in numbers], [path(one) for one in numbers], labels, classes, logits)


def digest(number: int) -> str:
    """Return the digest of an image."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def path(number: int) -> str:
    """Return the path of an image."""
    return f"photos/{number:05}.jpg"


class RevisionsProject(Project):
    """A project with git and DVC."""

    def create(self) -> None:
        """Create the folder and both repositories."""
        self.root.mkdir()
        self.run("git", "init", "--quiet", "--initial-branch", "main")
        self.run("git", "config", "user.email", "test@example.com")
        self.run("git", "config", "user.name", "Test")
        self.run("dvc", "init", "--quiet")
        (self.root / ".gitignore").write_text("/data/\n/predictions/\n")

    def write(
        self,
        head: Predictions | None,
        finetune: Predictions | None = None,
        *,
        images: Sequence[SplitRow] = (),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the results of a run, and dvc.lock, as `dvc repro` does; and put the results into DVC's cache."""
        sections = {
            "data": {"path": "photos"},
            "index": {"max_pixels": 10**6},
            "intervals": {"resamples": 200, "seed": 0},
            "head": dict(params or {"c": 1.0}),
            "split": {"seed": 0},
        }
        with (self.root / "params.yaml").open("w") as file:
            YAML().dump(sections, file)
        (self.root / "data").mkdir(exist_ok=True)
        write_rows(self.root / "data/split.csv", images, SplitRow)
        stages: dict[str, Any] = {
            "split": {
                "cmd": "true",
                "params": {"params.yaml": {"split": sections["split"]}},
                "outs": [self._cached("data/split.csv")],
            },
        }
        for track, found in (("head", head), ("finetune", finetune)):
            if found is not None:
                target = self.root / f"predictions/{track}.csv"
                target.parent.mkdir(exist_ok=True)
                write_predictions(target, found)
                code = {"path": f"stages/{track}", "hash": "md5", "md5": f"{len(found.digests):032}.dir"}
                stages[track] = {
                    "cmd": "true",
                    "deps": [{"path": "data/split.csv", "hash": "md5"}, code],
                    "params": {"params.yaml": {"head": sections["head"]}},
                    "outs": [self._cached(f"predictions/{track}.csv")],
                }
        with (self.root / "dvc.lock").open("w") as file:
            YAML().dump({"schema": "2.0", "stages": stages}, file)
        outs = {name: {"cmd": "true", "outs": [out["path"] for out in one["outs"]]} for name, one in stages.items()}
        with (self.root / "dvc.yaml").open("w") as file:
            YAML().dump({"stages": outs}, file)

    def replace(self, name: str, data: bytes) -> None:
        """Give a result other bytes, also in dvc.lock and DVC's cache."""
        old = hashlib.md5((self.root / name).read_bytes()).hexdigest()
        (self.root / name).write_bytes(data)
        new, lock = str(self._cached(name)["md5"]), self.root / "dvc.lock"
        lock.write_text(lock.read_text().replace(old, new))

    def cache_file(self, name: str) -> Path:
        """Return the path of a result in DVC's cache."""
        md5 = hashlib.md5((self.root / name).read_bytes()).hexdigest()
        return self.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]

    def _cached(self, name: str) -> dict[str, Any]:
        cached, data = self.cache_file(name), (self.root / name).read_bytes()
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(data)
        return {"path": name, "hash": "md5", "md5": hashlib.md5(data).hexdigest(), "size": len(data)}
