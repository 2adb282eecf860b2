"""The head against scikit-learn's LogisticRegressionCV and DINOv2's sweep: seconds, accuracy, peak memory.

python -m benchmarks.head [--features features/features.h5] [--num-training-images 50000] [--num-test-images 10000]

The rows are drawn with the mean and the covariance of a real layer's embeddings. Class centres are drawn with the same
covariance in its 64 largest directions, where they make 30 % of the variance. Values below zero become zero, as after a
ReLU. Seven more layers mix the last one with noise of the same covariance, the first with the most noise.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML
from threadpoolctl import threadpool_limits

from benchmarks.memory import memory_bytes
from benchmarks.options import make_parser
from benchmarks.rivals import fit_dinov2_sweep, fit_logistic_cv, standardise
from benchmarks.rounds import machine
from headstart.artifacts.features import create_features, open_features
from headstart.linear.folds import make_folds
from headstart.tables.rows import read_rows, write_rows
from headstart.tables.split import SplitRow
from stages.head.fit import fit_head
from stages.head.params import Params
from stages.head.train import train_head

DIRECTIONS, BETWEEN = 64, 0.3
GRID = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]
FOLDS = 5
LAYERS = ("layer1", "layer2", "layer3", "layer4", "layer5", "layer6", "layer7", "last")


def make_data(folder: Path, real: Path, num_images: int, num_test: int, num_classes: int) -> None:
    """Write a features file and a split, with the spectrum of a real layer (see the module)."""
    with open_features(real) as features:
        layer = features.spec["layers"][-1]
        x = np.concatenate(list(features.blocks(layer, 2**25))).astype(np.float64)
    x = x.reshape(-1, x.shape[2])
    mean = x.mean(axis=0)
    _, singular, directions = np.linalg.svd(x - mean, full_matrices=False)
    spread = singular / np.sqrt(len(x))
    random = np.random.default_rng(0)
    centres = random.normal(size=(num_classes, len(spread))) * spread * np.sqrt(BETWEEN)
    centres[:, DIRECTIONS:] = 0
    within = np.where(np.arange(len(spread)) < DIRECTIONS, np.sqrt(1 - BETWEEN), 1.0) * spread
    num = num_images + num_test
    digests = sorted(hashlib.sha256(number.to_bytes(8, "little")).hexdigest() for number in range(num))
    classes = random.integers(0, num_classes, num)
    is_test = random.permutation(num) < num_test
    spec = {"layers": list(LAYERS), "views": ["center"], "precision": "float32"}
    with create_features(folder / "features.h5", digests, spec, dict.fromkeys(LAYERS, len(mean))) as writer:
        for start in range(0, num, 5000):
            part = classes[start : start + 5000]
            last = centres[part] + random.normal(size=(len(part), len(spread))) * within
            for number, name in enumerate(LAYERS):
                noise = (len(LAYERS) - 1 - number) * 0.15
                mixed = np.sqrt(1 - noise**2 / 2) * last + noise * random.normal(size=last.shape) * spread
                rows = np.maximum(0, mean + mixed @ directions).astype(np.float32)
                writer.append(name, rows[:, None])
    rows = [
        SplitRow(digest, f"{digest}.jpg", f"class{number:03}", "test" if held_out else "train", digest)
        for digest, number, held_out in zip(digests, classes, is_test, strict=True)
    ]
    write_rows(folder / "split.csv", rows, SplitRow)


def params_for(layers: list[str]) -> Params:
    """Return the params of the project with the grid and the folds of this benchmark, and some layers."""
    content = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    content["head"] |= {"c_grid": GRID, "folds": FOLDS, "layers": layers}
    return Params(head=content["head"], runtime=content["runtime"])


def head(folder: Path, layers: list[str], *, with_diagnostics: bool) -> float:
    """Choose and fit the head as the stage does; return its accuracy on the test rows."""
    split = read_rows(folder / "split.csv", SplitRow)
    classes = sorted({row.label for row in split})
    with open_features(folder / "features.h5") as features:
        if with_diagnostics:
            predictions = train_head(features, split, classes, "", params_for(layers)).predictions
            return float(np.mean([a == b for a, b in zip(predictions.predicted, predictions.labels, strict=True)]))
        with threadpool_limits(limits=1, user_api="blas"):
            fitted = fit_head(features, [row for row in split if row.split == "train"], classes, params_for(layers))
        test = [row for row in split if row.split == "test"]
        truth = np.array([classes.index(row.label) for row in test])
        pieces = features.pieces(fitted.layers, features.rows([row.digest for row in test]), 2**24)
        return float(np.mean(np.concatenate(
            [fitted.model.logits(views[:, 0]).argmax(axis=1) == truth[places] for places, views in pieces]
        )))  # fmt: skip


def logistic_cv(folder: Path, num_jobs: int, num_rows: int | None = None) -> float:
    """Fit LogisticRegressionCV with its defaults, on the same grid and folds, float32 rows in memory."""
    split = read_rows(folder / "split.csv", SplitRow)
    x, labels = _rows(folder, split, "train", "last")
    x, labels = x[:num_rows], labels[:num_rows]
    folds = make_folds(labels.tolist(), [str(number) for number in range(len(x))], FOLDS, 0, "head.folds")
    mean, scale = standardise(x)
    with threadpool_limits(limits=None if num_jobs == 1 else 1, user_api="blas"):
        model = fit_logistic_cv(x, labels, folds, GRID, num_jobs)
    test, truth = _rows(folder, split, "test", "last")
    return float(model.score((test - mean) / scale, truth))


def dinov2_sweep(folder: Path) -> float:
    """Follow DINOv2's protocol, float32 rows in memory."""
    split = read_rows(folder / "split.csv", SplitRow)
    x, labels = _rows(folder, split, "train", "last")
    mean, scale = standardise(x)
    model = fit_dinov2_sweep(x, labels)
    test, truth = _rows(folder, split, "test", "last")
    return float(model.score((test - mean) / scale, truth))


CONTESTANTS: dict[str, Callable[[Path], float]] = {
    "head": lambda folder: head(folder, ["last"], with_diagnostics=False),
    "head with its diagnostics": lambda folder: head(folder, ["last"], with_diagnostics=True),
    "head, 8 layers": lambda folder: head(folder, list(LAYERS), with_diagnostics=False),
    "LogisticRegressionCV, n_jobs=1": lambda folder: logistic_cv(folder, 1),
    "LogisticRegressionCV, n_jobs=2": lambda folder: logistic_cv(folder, 2),
    "LogisticRegressionCV on 5000 rows, n_jobs=1": lambda folder: logistic_cv(folder, 1, 5000),
    "LogisticRegressionCV on 5000 rows, n_jobs=2": lambda folder: logistic_cv(folder, 2, 5000),
    "DINOv2 sweep": dinov2_sweep,
}


def _rows(
    folder: Path, split: Sequence[SplitRow], part: str, layer: str
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    rows = [row for row in split if row.split == part]
    with open_features(folder / "features.h5") as features:
        pieces = features.pieces([layer], features.rows([row.digest for row in rows]), 2**25)
        x = np.concatenate([views[:, 0] for _, views in pieces])
    return x, np.array([row.label for row in rows])


def measure(name: str, folder: Path) -> dict[str, float]:
    """Run a contestant in its own process; return its seconds, accuracy and peak MiB."""
    command = [sys.executable, "-m", "benchmarks.head", "--contestant", name, "--folder", str(folder)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, memory_bytes(process.pid))
            time.sleep(0.1)
        output, _ = process.communicate()
    assert process.returncode == 0, name
    result: dict[str, float] = json.loads(output.splitlines()[-1]) | {"mib": peak / 2**20}
    print(f"  {name:<42} {result['seconds']:8.1f} s   accuracy {result['accuracy']:.4f}   {result['mib']:6.0f} MiB",
          flush=True)  # fmt: skip
    return result


def main() -> None:
    """Make the data, run every contestant once, and print the ratios."""
    default = "(default: %(default)s)"
    parser = make_parser(__doc__)
    text = f"features file with the spectrum to draw from {default}"
    parser.add_argument("--features", type=Path, default=Path("features/features.h5"), help=text)
    parser.add_argument("--num-training-images", type=int, default=50_000, help=f"training rows {default}")
    parser.add_argument("--num-test-images", type=int, default=10_000, help=f"test rows {default}")
    parser.add_argument("--num-classes", type=int, default=100, help=f"classes {default}")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.contestant:
        start = time.perf_counter()
        accuracy = CONTESTANTS[given.contestant](given.folder)
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "accuracy": accuracy}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        if not (folder / "split.csv").exists():
            make_data(folder, given.features, given.num_training_images, given.num_test_images, given.num_classes)
        print(machine())
        results = {name: measure(name, folder) for name in ("head", "head with its diagnostics", "head, 8 layers")}
        seconds_by_jobs = {
            jobs: measure(f"LogisticRegressionCV on 5000 rows, n_jobs={jobs}", folder)["seconds"] for jobs in (1, 2)
        }
        rivals = [
            f"LogisticRegressionCV, n_jobs={min(seconds_by_jobs, key=lambda jobs: seconds_by_jobs[jobs])}",
            "DINOv2 sweep",
        ]
        for rival in rivals:
            theirs = measure(rival, folder)
            for head_name, ours in results.items():
                print(f"  {rival} / {head_name}: {theirs['seconds'] / ours['seconds']:.1f} x the seconds, "
                      f"{theirs['mib'] / ours['mib']:.1f} x the memory")  # fmt: skip


if __name__ == "__main__":
    main()
