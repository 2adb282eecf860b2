"""What competes in `benchmarks.data`: the head, variants of its params, and rivals on the last layer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.rivals import fit_dinov2_sweep, fit_logistic_cv, standardise, vote_of_neighbours
from headstart.artifacts.features import Features
from headstart.linear.folds import make_folds
from headstart.tables.classes import class_numbers
from headstart.tables.names import LAST_LAYER
from headstart.tables.predictions import Predictions
from headstart.tables.split import SplitRow
from stages.head.params import Params
from stages.head.train import TrainedHead, train_head

OURS = "head"
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Task:
    """Rows to train on and rows to classify.

    Attributes:
        features: Open features file.
        split: Rows of all images, by digest, with the split `train` or `test`.
        classes: (C,) names of the classes, sorted.
    """

    features: Features
    split: Sequence[SplitRow]
    classes: Sequence[str]

    def part(self, name: str) -> list[SplitRow]:
        """Return the rows of a split."""
        return [row for row in self.split if row.split == name]

    def embeddings(self, name: str) -> NDArray[np.float32]:
        """Return the last layer's embeddings of the rows of a split, means over the views, float32 (N, dim)."""
        views = self.features.read(LAST_LAYER, [row.digest for row in self.part(name)])
        return views.mean(axis=1, dtype=np.float32)

    def predictions(self, logits: NDArray[np.float64]) -> Predictions:
        """Return logits (M, C) of the rows to classify as predictions."""
        digests, paths, labels = (
            [getattr(row, key) for row in self.part("test")] for key in ("digest", "path", "label")
        )
        return Predictions(digests, paths, labels, self.classes, logits)


Contestant = Callable[[Task], tuple[Predictions, float]]


def head_params(changes: Mapping[str, object]) -> Params:
    """Return the params of the project, with changes of the section `head`, for one thread of the CPU."""
    content = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    content["runtime"] |= {"device": "cpu", "workers": 1}  # as the rivals have
    return Params(head=content["head"] | dict(changes), runtime=content["runtime"])


def num_folds(task: Task, wanted: int) -> int:
    """Return the number of folds: at most the number of training rows of the largest class."""
    _, counts = np.unique([row.label for row in task.part("train")], return_counts=True)
    return max(2, min(wanted, int(counts.max())))


def train(task: Task, params: Params) -> TrainedHead:
    """Train the head as its stage does, with fewer folds where there are few rows."""
    head = params.head.model_copy(update={"folds": num_folds(task, params.head.folds)})
    return train_head(task.features, task.split, task.classes, "", params.model_copy(update={"head": head}))


def head(params: Params) -> Contestant:
    """Return the head as a contestant. Its seconds are those of choosing and fitting, without the diagnostics."""

    def run(task: Task) -> tuple[Predictions, float]:
        trained = train(task, params)
        return trained.predictions, trained.training_seconds

    return run


def on_last_layer(
    classify: Callable[[Task, NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]],
) -> Contestant:
    """Return a contestant that reads embeddings (N, dim) of the last layer and returns probabilities (M, C)."""

    def run(task: Task) -> tuple[Predictions, float]:
        x, test = task.embeddings("train"), task.embeddings("test")
        start = time.perf_counter()
        with threadpool_limits(limits=1, user_api="blas"):
            probabilities = classify(task, x, test)
        seconds = time.perf_counter() - start
        return task.predictions(np.log(np.maximum(probabilities, _LEAST_PROBABILITY))), seconds

    return run


def rivals(params: Params) -> dict[str, Contestant]:
    """Return the rivals by name. scikit-learn's search has the grid and the folds of the head."""
    grid, folds, seed = params.head.c_grid, params.head.folds, params.head.seed

    def logistic_cv(task: Task, x: NDArray[np.float32], test: NDArray[np.float32]) -> NDArray[np.float64]:
        labels, groups = ([getattr(row, key) for row in task.part("train")] for key in ("label", "group"))
        fold_of = make_folds(labels, groups, num_folds(task, folds), seed, "head.folds")
        scaler = StandardScaler().fit(x)
        model = fit_logistic_cv(scaler.transform(x), np.array(labels), fold_of, grid)
        return _probabilities(model, scaler.transform(test), task.classes)

    def dinov2(task: Task, x: NDArray[np.float32], test: NDArray[np.float32]) -> NDArray[np.float64]:
        mean, scale = standardise(x)
        labels = np.array([row.label for row in task.part("train")])
        return _probabilities(fit_dinov2_sweep(x, labels), (test - mean) / scale, task.classes)

    def neighbours(task: Task, x: NDArray[np.float32], test: NDArray[np.float32]) -> NDArray[np.float64]:
        targets = class_numbers([row.label for row in task.part("train")], task.classes)
        return vote_of_neighbours(x, targets, test, len(task.classes))

    return {
        "LogisticRegressionCV": on_last_layer(logistic_cv),
        "DINOv2 sweep": on_last_layer(dinov2),
        "20-NN": on_last_layer(neighbours),
    }


def _probabilities(model: Any, x: NDArray[np.float32], classes: Sequence[str]) -> NDArray[np.float64]:  # noqa: ANN401
    """Return probabilities by class, (N, C), 0 for a class that has no training row."""
    probabilities = np.zeros((len(x), len(classes)))
    probabilities[:, class_numbers(list(model.classes_), classes)] = model.predict_proba(x)
    return probabilities
