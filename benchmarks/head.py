"""The head against scikit-learn's LogisticRegressionCV and DINOv2's sweep: seconds, accuracy, peak memory.

python -m benchmarks.head [--features features/features.h5] [--images 50000] [--reported 10000] [--classes 100]

The data: rows with the mean, the covariance (so the spectrum) and the zeros of a real layer's embeddings. Class centres
are drawn with that covariance in its 64 largest directions and make 30 % of the variance there; then all is clipped at
zero as by a ReLU. Seven further layers are the last one mixed with as much noise of the same covariance, and more.
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
    """Write a features file and a split with the spectrum of a real layer."""
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
    reported = random.permutation(num) < num_test
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
        SplitRow(digest, f"{digest}.jpg", f"class{number:03}", "test" if held else "train", digest)
        for digest, number, held in zip(digests, classes, reported, strict=True)
    ]
    write_rows(folder / "split.csv", rows, SplitRow)


def params_for(layers: list[str]) -> Params:
    """Return the params of the project with this grid, these folds and layers."""
    content = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    content["head"] |= {"c_grid": GRID, "folds": FOLDS, "layers": layers}
    return Params(head=content["head"], runtime=content["runtime"])


def ours(folder: Path, layers: list[str], *, with_diagnostics: bool) -> float:
    """Choose and fit the head; return its accuracy on the test rows."""
    split = read_rows(folder / "split.csv", SplitRow)
    classes = sorted({row.label for row in split})
    with open_features(folder / "features.h5") as features:
        if with_diagnostics:
            predictions = train_head(features, split, classes, "", params_for(layers)).predictions
            return float(np.mean([a == b for a, b in zip(predictions.predicted, predictions.labels, strict=True)]))
        with threadpool_limits(limits=1, user_api="blas"):
            fitted = fit_head(features, [row for row in split if row.split == "train"], classes, params_for(layers))
        reported = [row for row in split if row.split == "test"]
        truth = np.array([classes.index(row.label) for row in reported])
        pieces = features.pieces(fitted.layer, features.rows([row.digest for row in reported]), 2**24)
        return float(np.mean(np.concatenate(
            [fitted.model.logits(views[:, 0]).argmax(axis=1) == truth[places] for places, views in pieces]
        )))  # fmt: skip


def logistic_cv(folder: Path, num_jobs: int, num_rows: int | None = None) -> float:
    """Fit LogisticRegressionCV with its defaults on the same grid and folds, standardised float32 rows in memory."""
    from sklearn.linear_model import LogisticRegressionCV  # which the head does without: memory

    split = read_rows(folder / "split.csv", SplitRow)
    x, labels = _rows(folder, split, "train", "last")
    x, labels = x[:num_rows], labels[:num_rows]
    folds = make_folds(labels.tolist(), [str(number) for number in range(len(x))], FOLDS, 0, "head.folds")
    pairs = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(FOLDS)]
    mean, scale = _standardise(x)
    model = LogisticRegressionCV(Cs=GRID, cv=pairs, n_jobs=num_jobs, l1_ratios=(0,), use_legacy_attributes=False)
    with threadpool_limits(limits=None if num_jobs == 1 else 1, user_api="blas"):
        model.fit(x, labels)
    test, truth = _rows(folder, split, "test", "last")
    return float(model.score((test - mean) / scale, truth))


def dinov2_sweep(folder: Path) -> float:
    """Follow DINOv2's log-regression protocol: 45 strengths, the best on a tenth held out, then all rows.

    facebookresearch/dinov2, dinov2/eval/log_regression.py: C from 10^-6 to 10^5; of its 1000 iterations at most 100.
    """
    from sklearn.linear_model import LogisticRegression

    split = read_rows(folder / "split.csv", SplitRow)
    x, labels = _rows(folder, split, "train", "last")
    mean, scale = _standardise(x)
    held = np.arange(len(x)) % 10 == 0
    best, best_accuracy = 0.0, -1.0
    for strength in np.logspace(-6, 5, 45):
        model = LogisticRegression(C=strength, max_iter=100).fit(x[~held], labels[~held])
        accuracy = model.score(x[held], labels[held])
        if accuracy > best_accuracy:
            best, best_accuracy = strength, accuracy
    model = LogisticRegression(C=best, max_iter=100).fit(x, labels)
    test, truth = _rows(folder, split, "test", "last")
    return float(model.score((test - mean) / scale, truth))


CONTESTANTS: dict[str, Callable[[Path], float]] = {
    "head": lambda folder: ours(folder, ["last"], with_diagnostics=False),
    "head with its diagnostics": lambda folder: ours(folder, ["last"], with_diagnostics=True),
    "head, 8 layers": lambda folder: ours(folder, list(LAYERS), with_diagnostics=False),
    "LogisticRegressionCV, n_jobs=1": lambda folder: logistic_cv(folder, 1),
    "LogisticRegressionCV, n_jobs=2": lambda folder: logistic_cv(folder, 2),
    "tuning n_jobs=1": lambda folder: logistic_cv(folder, 1, 5000),
    "tuning n_jobs=2": lambda folder: logistic_cv(folder, 2, 5000),
    "DINOv2 sweep": dinov2_sweep,
}


def _rows(
    folder: Path, split: Sequence[SplitRow], part: str, layer: str
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    rows = [row for row in split if row.split == part]
    with open_features(folder / "features.h5") as features:
        pieces = features.pieces(layer, features.rows([row.digest for row in rows]), 2**25)
        x = np.concatenate([views[:, 0] for _, views in pieces])
    return x, np.array([row.label for row in rows])


def _standardise(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Standardise in place, as the head does."""
    mean, variance = x.mean(axis=0), x.var(axis=0)
    scale = np.sqrt(variance + np.median(variance[variance > 0]))
    x -= mean
    x /= scale
    return mean, scale


def measure(name: str, folder: Path) -> dict[str, float]:
    """Run a contestant in a process of its own; return its seconds, accuracy and peak MiB."""
    command = [sys.executable, "-m", "benchmarks.head", "--contestant", name, "--folder", str(folder)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, memory_bytes(process.pid))
            time.sleep(0.1)
        output, _ = process.communicate()
    assert process.returncode == 0, name
    result: dict[str, float] = json.loads(output.splitlines()[-1]) | {"mib": peak / 2**20}
    print(f"  {name:<32} {result['seconds']:8.1f} s   accuracy {result['accuracy']:.4f}   {result['mib']:6.0f} MiB",
          flush=True)  # fmt: skip
    return result


def main() -> None:
    """Make the data, run every contestant once, print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=Path, default=Path("features/features.h5"))
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--reported", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--contestant", choices=CONTESTANTS)
    parser.add_argument("--folder", type=Path)
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
            make_data(folder, given.features, given.images, given.reported, given.classes)
        print(machine())
        results = {name: measure(name, folder) for name in ("head", "head with its diagnostics", "head, 8 layers")}
        tuning = {jobs: measure(f"tuning n_jobs={jobs}", folder)["seconds"] for jobs in (1, 2)}
        rivals = [f"LogisticRegressionCV, n_jobs={min(tuning, key=lambda jobs: tuning[jobs])}", "DINOv2 sweep"]
        for rival in rivals:
            theirs = measure(rival, folder)
            for ours_name, mine in results.items():
                print(f"  {rival} / {ours_name}: {theirs['seconds'] / mine['seconds']:.1f} x the time, "
                      f"{theirs['mib'] / mine['mib']:.1f} x the memory")  # fmt: skip


if __name__ == "__main__":
    main()
