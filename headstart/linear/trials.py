"""Trials: ridge regression on sets of layers, and how well it did; kept on disk, because most edits change none.

Another `head.c` or another kind of head needs the same trials, which take half of the stage's time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.kept import KeptTensors
from headstart.base.files import code_digests, sha256_json
from headstart.linear.fold_ridge import LayerSet
from headstart.linear.model import Float64Array
from headstart.linear.selection import CrossValidationScore

_PACKAGES = ("h5py", "numpy", "scipy")
_CODE = ("headstart/artifacts/features.py", "headstart/artifacts/kept.py", "headstart/linear")


@dataclass(frozen=True)
class Trial:
    """A set of layers that was tried.

    Attributes:
        layers: Names of the layers, by depth.
        num_columns: Number of their columns.
        score: Score of the best c.
        errors: float64 (F, S), the mean squared error on each fold at each c.
        losses: float32 (N,), the log loss of each row, after calibration.
        c_grid: (S,) values of c that were tried.
    """

    layers: LayerSet
    num_columns: int
    score: CrossValidationScore
    errors: Float64Array
    losses: NDArray[np.float32]
    c_grid: Sequence[float]

    @property
    def best_c(self) -> float:
        """The c with the lowest squared error."""
        return self.c_grid[int(self.errors.mean(axis=0).argmin())]

    @property
    def error(self) -> float:
        """The lowest squared error."""
        return float(self.errors.mean(axis=0).min())


class KeptTrials:
    """Trials on disk: those of the last run. A run that depends on anything else replaces them.

    Args:
        path: Path of the file. It may be deleted at any time.
        depends_on: All that the trials depend on besides code and packages, as values that JSON can hold.
    """

    def __init__(self, path: Path, depends_on: Mapping[str, Any]) -> None:
        versions = {name: version(name) for name in _PACKAGES}
        key = sha256_json({"code": code_digests(*_CODE), "versions": versions, **depends_on})
        self._kept = KeptTensors(path, key, "head")

    def load(self) -> dict[LayerSet, Trial]:
        """Return the trials by set of layers, in the order in which they were made; none where none are kept."""
        found = self._kept.load()
        if found is None:
            return {}
        tensors, facts = found
        trials = [
            Trial(
                layers=tuple(one["layers"]),
                num_columns=one["num_columns"],
                score=CrossValidationScore(**one["score"]),
                errors=tensors[f"errors{number}"],
                losses=tensors[f"losses{number}"],
                c_grid=one["c_grid"],
            )
            for number, one in enumerate(facts)
        ]
        return {trial.layers: trial for trial in trials}

    def save(self, trials: Sequence[Trial]) -> None:
        """Replace the trials."""
        facts = [
            {
                "layers": list(trial.layers),
                "num_columns": trial.num_columns,
                "score": asdict(trial.score),
                "c_grid": list(trial.c_grid),
            }
            for trial in trials
        ]
        tensors: dict[str, NDArray[Any]] = {}
        for number, trial in enumerate(trials):
            tensors |= {f"errors{number}": trial.errors, f"losses{number}": trial.losses}
        self._kept.save(tensors, facts)
