"""Kept tensors: a file in the project's cache with the result of slow work, under a key of all that it depends on.

The next run with another key replaces the file, so the cache does not grow. It may be deleted at any time.

    <name of a tensor>    the tensor
    metadata made         JSON: key, facts (values that are no tensors), sha256 of tensors and facts
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from headstart.base.files import canonical_json, write_bytes

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
        try:
            return self._read()
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            print(f"{self._asked_by}: WARNING: {self.path} is damaged ({error!r}); it is made anew", flush=True)
            return None

    def save(self, tensors: Tensors, facts: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Replace the file, whole or not at all. Where it cannot be written, say so: the next run takes longer.

        Args:
            tensors: Tensors by name.
            facts: Other values, such as JSON can hold.
        """
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        # With more than one key of metadata, the bytes of the file are not deterministic (huggingface/safetensors#584).
        made = canonical_json({"key": self._key, "facts": facts, "sha256": _sha256(contiguous, facts)})
        try:
            write_bytes(self.path, save(contiguous, metadata={"made": made}))
        except OSError as error:
            print(f"{self._asked_by}: WARNING: {self.path}: cannot be written ({error}); the next run takes longer")

    def _read(self) -> tuple[Tensors, Any] | None:
        with safe_open(self.path, framework="numpy") as file:
            made = json.loads(file.metadata()["made"])
            if made["key"] != self._key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if _sha256(tensors, made["facts"]) != made["sha256"]:
            raise ValueError("its content does not have its sha256")
        return tensors, made["facts"]


def _sha256(tensors: Tensors, facts: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    return hashlib.sha256(save(dict(tensors)) + canonical_json({"facts": facts}).encode()).hexdigest()
