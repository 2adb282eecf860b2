"""The costs of both tracks when they last ran. They are only printed, because they differ from run to run."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headstart.base.errors import TableError
from headstart.tables.metrics import read_metrics


def describe_costs(folder: Path) -> str:
    """Return the costs of both tracks in one line, from the timings of the last runs.

    Timings are not outputs of a stage. If DVC restored a result, or if nothing was left to embed, they are from an
    earlier run, perhaps on other data. So the line says that they are from the last run.

    Args:
        folder: Folder with the timings, `<stage>.json`. A missing timing is called not measured; where all are
            missing, the line says only that.
    """
    extract, head, finetune = (_timings(folder, stage) for stage in ("extract", "head", "finetune"))
    if not (extract or head or finetune):
        return "no timings: no stage has run on this machine yet"
    return (
        f"last run (.cache/timings): training the head took {_number(head, 'training_seconds', 's')}, fine-tuning "
        f"{_number(finetune, 'training_seconds', 's')}; the head predicts as fast as images are embedded, "
        f"{_number(extract, 'images_per_second', 'images/s')}, the fine-tuned network "
        f"{_number(finetune, 'prediction_images_per_second', 'images/s')}"
    )


def _timings(folder: Path, stage: str) -> Mapping[str, Any]:
    """Return the timings of a stage; none if they are missing or damaged, because no result depends on them."""
    with suppress(TableError):
        return read_metrics(folder / f"{stage}.json")
    return {}


def _number(timings: Mapping[str, Any], name: str, unit: str) -> str:
    return f"{timings[name]:.3g} {unit}" if isinstance(timings.get(name), int | float) else "(not measured)"
