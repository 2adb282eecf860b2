"""Exports a backbone in a process of its own, so that torch and its gigabyte of memory are gone when it ends.

<folder>/<key>.json                         the backbone's facts (`BackboneFacts`) and layers, and their sha256
<folder>/<key>-<px>-<weights>-<...>.onnx    its graph for pictures of one side (see `cache`)
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from headstart.backbone.params import BackboneParams
from headstart.base import errors
from headstart.base.files import read_bytes, sha256_json, write_json
from headstart.engines.cache import find_graph, keep_graph, made_by
from headstart.engines.engine import ExportError


def backbone_key(params: BackboneParams) -> str:
    """Return a digest of all that a backbone's graph depends on, except the side of the pictures and the weights."""
    return sha256_json({"backbone": params.model_dump(), **made_by()})


def find_facts(folder: Path, key: str) -> dict[str, Any] | None:
    """Return `facts` and `layers` of a backbone from the cache; None if they are not there or damaged."""
    path = folder / f"{key}.json"
    try:
        known: dict[str, Any] = json.loads(read_bytes(path))
        if known.pop("sha256") == sha256_json(known):
            return known
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        pass
    print(f"WARNING: {path}: this description of an exported network is damaged. The network is exported again.")
    return None


def find_backbone_graph(folder: Path, key: str, px: int, weights_sha256: str) -> bytes | None:
    """Return the graph of a backbone for pictures of one side from the cache; None if it is not there."""
    return find_graph(folder, _name(key, px, weights_sha256))


def export_backbone(params: BackboneParams, px: int | str, median_short_side_px: float, folder: Path) -> None:
    """Export a backbone into a cache, in another process.

    Args:
        params: The section `backbone`.
        px: Side as in `transform.px`.
        median_short_side_px: Median of the shorter sides of all images.
        folder: Folder of the cache.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as asked.
        ExportError: It cannot be exported, or the graph gives other numbers.
        StoreError: The folder cannot be written to.
    """
    given = {"params": params.model_dump(), "px": px, "median_short_side_px": median_short_side_px}
    command = [sys.executable, "-m", "headstart.engines.export_process"]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: S603 - a command of our own
        [*command, json.dumps(given | {"folder": str(folder.absolute())})],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        try:
            kind, message = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):  # it was killed, or has a bug and has printed a stack trace
            kind, message = "ExportError", f"the export ended with exit code {done.returncode}"
        raise getattr(errors, kind, ExportError)(message)


def main() -> None:
    """Export as the JSON in the first argument says. After a known error print class and message as JSON and exit 1."""
    given = json.loads(sys.argv[1])
    params, folder = BackboneParams.model_validate(given["params"]), Path(given["folder"])
    try:
        _export(params, given["px"], given["median_short_side_px"], folder)
    except (errors.HeadstartError, ExportError) as error:
        print(json.dumps([type(error).__name__, str(error)]))
        sys.exit(1)
    except OSError as error:
        print(json.dumps(["StoreError", f"{folder}: cannot be written to ({error})"]))
        sys.exit(1)


def _export(params: BackboneParams, px: int | str, median_short_side_px: float, folder: Path) -> None:
    from headstart.backbone.build import (
        build_embedding_network,
    )  # imports torch, which the process that calls this one does not need
    from headstart.engines.export import make_graph

    facts, network = build_embedding_network(params, px, median_short_side_px)
    crop_px, key = facts.transform_for(px, median_short_side_px).crop_px, backbone_key(params)
    keep_graph(folder, _name(key, crop_px, facts.weights_sha256), make_graph(network, crop_px, network.layers))
    known = {"facts": facts.to_json(), "layers": list(network.layers)}
    write_json(folder / f"{key}.json", known | {"sha256": sha256_json(known)})


def _name(key: str, px: int, weights_sha256: str) -> str:
    return f"{key}-{px}-{weights_sha256[:16]}"


if __name__ == "__main__":
    main()
