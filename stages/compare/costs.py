"""The costs of both tracks when they last ran. Only printed: they differ from run to run, and outputs must not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.tables.metrics import read_metrics


def describe_costs(folder: Path) -> str:
    """Return the costs of both tracks in a line, from the timings of the last runs, as far as they exist.

    Timings are not outputs of a stage. If DVC restored a result, or nothing was left to embed, they are those of an
    earlier run, perhaps with other data. So the line speaks of the last run only.

    Args:
        folder: Folder with the timings of each stage.
    """
    extract, head, finetune = (_timings(folder, stage) for stage in ("extract", "head", "finetune"))
    return (
        "when they last ran (.cache/timings), the head trained in "
        f"{_number(head, 'training_seconds', 's')} and predicted as fast as images are embedded, "
        f"{_number(extract, 'images_per_second', 'images/s')}; fine-tuning took "
        f"{_number(finetune, 'training_seconds', 's')} and predicted "
        f"{_number(finetune, 'prediction_images_per_second', 'images/s')}"
    )


def _timings(folder: Path, stage: str) -> Mapping[str, Any]:
    path = folder / f"{stage}.json"
    return read_metrics(path) if path.is_file() else {}


def _number(timings: Mapping[str, Any], name: str, unit: str) -> str:
    return f"{timings[name]:.3g} {unit}" if name in timings else f"(not measured) {unit}"
