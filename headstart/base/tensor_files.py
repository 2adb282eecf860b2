"""Tensor files (safetensors): whatever is wrong with one is one error. The libraries raise a dozen kinds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load

from headstart.base.files import check_regular

Tensors = dict[str, NDArray[Any]]


class TensorFileError(Exception):
    """A file is no safetensors file, or has tensors that numpy lacks. The message is the reason."""


def read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Return the tensors of a file by name, and its metadata.

    Raises:
        TensorFileError: The file is damaged.
        OSError: It cannot be read.
    """
    check_regular(path)
    with one_error(), safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return _checked(tensors), file.metadata() or {}


def parse_tensors(data: bytes) -> Tensors:
    """Return the tensors of the bytes of a file, by name.

    Raises:
        TensorFileError: The bytes are no safetensors file.
    """
    with one_error():
        return _checked(load(data))


def _checked(tensors: Tensors) -> Tensors:
    """Return the tensors, if numpy itself has their types. Other packages may add types of their own to it."""
    for name, values in tensors.items():
        if values.dtype.isbuiltin != 1:
            raise TypeError(f"{name} is {values.dtype}")
    return tensors


@contextmanager
def one_error() -> Iterator[None]:
    """Raise whatever safetensors and numpy raise for a damaged file as a TensorFileError.

    They do not say what they may raise: among others SafetensorError, and for types and shapes that numpy lacks
    ValueError, KeyError, TypeError and AttributeError.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise TensorFileError(f"{type(error).__name__}: {error}") from error
