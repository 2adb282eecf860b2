"""The cache of exported networks. A network in the cache starts in a second and needs no torch.

    <folder>/<name>-<sha256>.onnx    a graph; its digest shows whether it is whole

The caller makes the name from all that the graph depends on: the params or the digest of a bundle, and `made_by`.
"""

import hashlib
import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from headstart.base.files import code_digests, read_bytes, write_bytes

_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "timm", "torch", "torchvision")
_CODE = ("headstart/backbone", "headstart/engines", "headstart/imaging/transform.py")


def made_by() -> dict[str, dict[str, str]]:
    """Return what every graph depends on, for a key: versions of packages, and digests of the project's modules."""
    return {"versions": {name: version(name) for name in _PACKAGES}, "code": code_digests(*_CODE)}


def keep_graph(folder: Path, name: str, graph: bytes) -> None:
    """Write a graph into the cache.

    Args:
        folder: Folder of the cache.
        name: Name made from all that the graph depends on.
        graph: Bytes of an ONNX file.

    Raises:
        OSError: The folder cannot be written to.
    """
    write_bytes(_path(folder, name, graph), graph)


def find_graph(folder: Path, name: str) -> bytes | None:
    """Return the graph of that name; None if there is none. A damaged one is reported with a warning and ignored."""
    for path in sorted(folder.glob(f"{name}-*.onnx")):
        graph = _whole(path)
        if graph is not None:
            with suppress(OSError):
                path.touch()  # `store prune` deletes by the time of the last use
            return graph
        print(f"WARNING: {path}: this exported network is damaged. It is exported again.")
    return None


def damaged_graphs(folder: Path) -> list[Path]:
    """Return the graphs of a cache whose bytes do not have the digest in their names."""
    return [path for path in sorted(folder.glob("*.onnx")) if _whole(path) is None]


def user_folder() -> Path:
    """Return the folder of graphs for commands without a store, `$XDG_CACHE_HOME/headstart/engines`."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "headstart" / "engines"


def _whole(path: Path) -> bytes | None:
    """Return the bytes of a graph; None if they do not have the digest in its name, or cannot be read."""
    with suppress(OSError):
        graph = read_bytes(path)
        if hashlib.sha256(graph).hexdigest() == path.stem.rsplit("-", 1)[-1]:
            return graph
    return None


def _path(folder: Path, name: str, graph: bytes) -> Path:
    return folder / f"{name}-{hashlib.sha256(graph).hexdigest()}.onnx"
