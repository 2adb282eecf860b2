"""Trials: ridge regression on sets of layers, and how well it did; kept on disk, because most edits change none.

Another `head.c` or another kind of head needs the same trials, which take half of the stage's time.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from headstart.base.files import canonical_json, code_digests, sha256_json, write_bytes
from headstart.linear.fold_ridge import LayerSet
from headstart.linear.model import Float64Array
from headstart.linear.selection import CrossValidationScore

_PACKAGES = ("h5py", "numpy", "scipy")
_CODE = ("headstart/artifacts/features.py", "headstart/linear")


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
        self._path = path
        versions = {name: version(name) for name in _PACKAGES}
        self._key = sha256_json({"code": code_digests(*_CODE), "versions": versions, **depends_on})

    def load(self) -> dict[LayerSet, Trial]:
        """Return the trials by set of layers, in the order in which they were made.

        They are empty if there are none of this key, or the file is damaged, which is said.
        """
        try:
            return {trial.layers: trial for trial in self._read()}
        except FileNotFoundError:
            return {}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            print(f"head: WARNING: {self._path} is damaged ({error}); it is made anew", flush=True)
            return {}

    def _read(self) -> list[Trial]:
        with safe_open(self._path, framework="numpy") as file:
            made = json.loads(file.metadata()["made"])
            if made["key"] != self._key:
                return []
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if _sha256(tensors, made["trials"]) != made["sha256"]:
            raise ValueError("its content does not have its sha256")
        return [
            Trial(
                layers=tuple(one["layers"]),
                num_columns=one["num_columns"],
                score=CrossValidationScore(**one["score"]),
                errors=tensors[f"errors{number}"],
                losses=tensors[f"losses{number}"],
                c_grid=one["c_grid"],
            )
            for number, one in enumerate(made["trials"])
        ]

    def save(self, trials: Sequence[Trial]) -> None:
        """Replace the file, whole or not at all. Where it cannot be written, say so: the next run takes longer."""
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
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        # With more than one key of metadata, the bytes of the file are not deterministic (huggingface/safetensors#584).
        made = canonical_json({"key": self._key, "sha256": _sha256(tensors, facts), "trials": facts})
        try:
            write_bytes(self._path, save(tensors, metadata={"made": made}))
        except OSError as error:
            print(f"head: WARNING: {self._path}: cannot be written ({error.strerror}); the next run takes longer")


def _sha256(tensors: Mapping[str, NDArray[Any]], facts: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(save(dict(tensors)) + canonical_json({"trials": facts}).encode()).hexdigest()
