"""Made-up embeddings for the tests of the head and its solvers."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.features import create_features, open_features
from headstart.linear.design import DesignMatrices, Resources
from headstart.linear.folds import make_folds
from headstart.linear.layer_rows import LayerRows
from headstart.linear.targets import Targets

FOLDS = 3
RESOURCES = Resources(num_threads=2, device="cpu")


def digests_of(num: int) -> list[str]:
    """Return a number of digests, ascending."""
    return sorted(hashlib.sha256(number.to_bytes(4, "little")).hexdigest() for number in range(num))


def spec_of(layers: Sequence[str], num_views: int = 1) -> dict[str, Any]:
    """Return a spec, as a features file has it, with these layers."""
    views = [f"view {number}" for number in range(num_views)]
    return {"backbone": "tiny", "layers": list(layers), "views": views, "precision": "float32"}


def write_features(path: Path, digests: Sequence[str], layers: Mapping[str, NDArray[np.float32]]) -> None:
    """Write a features file from rows (N, dim) or (N, views, dim) of each layer, in the order of the digests."""
    views = {name: rows[:, None] if rows.ndim == 2 else rows for name, rows in layers.items()}
    num_views = next(iter(views.values())).shape[1]
    dims = {name: rows.shape[2] for name, rows in views.items()}
    with create_features(path, digests, spec_of(list(layers), num_views), dims) as writer:
        for name, rows in views.items():
            writer.append(name, rows)


def clusters(num: int, dim: int, num_classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return overlapping clusters, rows (num, dim) and classes (num,).

    The columns have many scales: the first is constant, the second huge, the third tiny, the fourth almost always zero.
    """
    random = np.random.default_rng(seed)
    classes = random.permutation(np.arange(num) % num_classes)
    x = random.normal(size=(num_classes, dim))[classes] + random.normal(size=(num, dim))
    x = x * np.geomspace(0.1, 10, dim) + 3
    x[:, 0] = 7
    x[:, 1] = x[:, 1] * 1e3 + 1e6
    x[:, 2] *= 1e-6
    x[:, 3] = np.where(random.random(num) < 0.02, x[:, 3], 0)
    return x.astype(np.float32), classes


def equal_targets(classes: NDArray[np.int64], num_classes: int) -> Targets:
    """Return targets whose rows all have the sample weight 1."""
    return Targets(classes, np.ones(len(classes)), num_classes)


class DesignsOf:
    """Writes rows to features files, which stay open until the test ends, and returns their design matrices."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self._folder, self._files, self._num = folder, files, 0

    def __call__(
        self, x: NDArray[np.float32], targets: Targets, max_bytes: int = 2**30, num_folds: int = FOLDS
    ) -> DesignMatrices:
        """Return the design matrices of some rows (N, dim). Rows of more than `max_bytes` do not stay in memory."""
        self._num += 1
        digests, path = digests_of(len(x)), self._folder / f"{self._num}.h5"
        write_features(path, digests, {"last": x})
        folds = make_folds([str(number) for number in targets.classes], digests, num_folds, 0, "head.folds")
        features = self._files.enter_context(open_features(path))
        return DesignMatrices(LayerRows(features, ["last"], digests, folds, max_bytes), targets, num_folds, RESOURCES)


def standardisation(
    x: NDArray[np.float64], sample_weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean (dim,) and scale (dim,) of the columns, computed from the rows themselves."""
    mean = np.average(x, axis=0, weights=sample_weights)
    variance = np.average((x - mean) ** 2, axis=0, weights=sample_weights)
    variance[np.ptp(x, axis=0) == 0] = 0
    return mean, np.sqrt(variance + np.median(variance[variance > 0]))
