"""Exporting: a backbone from torch to a kept graph for ONNX Runtime."""

import json
import sys
from pathlib import Path

from stages.core.backbones import build_embedding_network
from stages.core.engines.engine import ExportError
from stages.core.engines.graphs import make_graph
from stages.core.errors import HeadstartError
from stages.core.files import write_bytes, write_json
from stages.core.sections import BackboneParams
from stages.extract.kept import graph_path, known_path


def export(params: BackboneParams, px: int | str, median_short_side_px: float, folder: Path, key: str) -> None:
    """Export a backbone into two files of a folder: what is to know about it, and the graph (see `kept`).

    Args:
        params: The backbone.
        px: As in `transform.px`.
        median_short_side_px: Median over the images of the shorter side.
        folder: Where to.
        key: Of all that the graph depends on but for the side of the pictures.

    Raises:
        BackboneError, DownloadError: The backbone cannot be built as asked.
        ExportError: It cannot be exported, or the graph gives other numbers.
    """
    facts, network = build_embedding_network(params, px, median_short_side_px)
    crop_px = facts.transform_for(px, median_short_side_px).crop_px
    graph = make_graph(network, crop_px, network.taps)
    write_bytes(graph_path(folder, key, crop_px, facts.weights_sha256, graph), graph)
    write_json(known_path(folder, key), {"facts": facts.to_json(), "taps": list(network.taps)})


def main() -> None:
    """Do what the JSON in the first argument says; on a known error print its class and message as JSON and exit 1."""
    given = json.loads(sys.argv[1])
    try:
        export(
            BackboneParams.model_validate(given["params"]),
            given["px"],
            given["median_short_side_px"],
            Path(given["folder"]),
            given["key"],
        )
    except (HeadstartError, ExportError) as error:
        print(json.dumps([type(error).__name__, str(error)]))
        sys.exit(1)
    except OSError as error:
        print(json.dumps(["StoreError", f"{given['folder']}: cannot be written to ({error})"]))
        sys.exit(1)


if __name__ == "__main__":
    main()
