"""Made-up embeddings for the tests of the head."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.features import create_features


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
