"""Kept tensors: a file in the project's cache with the result of slow work, under a key of all that it depends on.

The next run with another key replaces the file, so the cache does not grow. It may be deleted at any time.

    facts: values that are no tensors, as JSON in one line
    tensors: a safetensors file
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from headstart.base.kept import read_kept, try_to_write, warn_damaged, write_kept
from headstart.base.tensor_files import TensorFileError, parse_tensors

Tensors = Mapping[str, NDArray[Any]]


class KeptTensors:
    """Tensors and facts of one key on disk.

    Attributes:
        path: Path of the file.

    Args:
        path: Path of the file.
        key: sha256 of all that the content depends on.
        asked_by: Name of the stage, for messages.
    """

    def __init__(self, path: Path, key: str, asked_by: str) -> None:
        self.path, self._key, self._asked_by = path, key, asked_by

    def load(self) -> tuple[Tensors, Any] | None:
        """Return the tensors by name, and the facts. None: there are none of this key, or the file is damaged."""
        content = read_kept(self.path, self._key, self._asked_by)
        if content is None:
            return None
        facts, _, tensors = content.partition(b"\n")
        try:
            return parse_tensors(tensors), json.loads(facts)
        except (TensorFileError, ValueError) as error:
            warn_damaged(self.path, f"is damaged ({error})", self._asked_by)
            return None

    def save(self, tensors: Tensors, facts: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Replace the file, whole or not at all. Where it cannot be written, say so: the next run takes longer.

        Args:
            tensors: Tensors by name.
            facts: Other values, such as JSON can hold.
        """
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        parts = json.dumps(facts).encode() + b"\n", save(contiguous)
        try_to_write(self.path, lambda: write_kept(self.path, self._key, *parts), self._asked_by)
