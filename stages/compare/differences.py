"""Differences: the metrics of fine-tuning minus those of the head."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.base.errors import TableError
from headstart.tables.evaluate import ScoreRow
from headstart.tables.metrics import read_metrics
from headstart.tables.names import TRACKS
from headstart.tables.rows import read_rows


@dataclass(frozen=True)
class Difference:
    """The difference of one metric.

    Attributes:
        name: Name of the metric in files.
        title: Name of the metric for people, with its unit.
        better: `higher` or `lower`: which scores are better.
        value: Score of fine-tuning minus score of the head.
    """

    name: str
    title: str
    better: str
    value: float


def read_differences(root: Path) -> list[Difference]:
    """Subtract every metric that `dvc metrics show` shows, in the order of `plots/<track>/scores.csv`.

    Args:
        root: Folder with `metrics/` and `plots/`.

    Raises:
        TableError: A file is missing or damaged, or the tracks do not have the same metrics.
    """
    head, finetune = (read_metrics(root / f"metrics/{track}.json") for track in TRACKS)
    if head.keys() != finetune.keys():
        raise TableError(
            f"metrics/head.json and metrics/finetune.json: expected the same metrics; found "
            f"{sorted(head.keys() ^ finetune.keys())} in only one of them. Run: dvc repro evaluate"
        )
    # The names are the same, so the titles in the table of one track are enough.
    rows = read_rows(root / "plots/head/scores.csv", ScoreRow)
    return [
        Difference(row.score, row.title, row.better, finetune[row.score] - head[row.score])
        for row in rows
        if row.score in head
    ]


def describe_differences(differences: Sequence[Difference]) -> str:
    """Return the differences in one line that says which scores are better."""
    return "fine-tuning minus head: " + ", ".join(
        f"{one.title} {one.value:+.4f} ({one.better} is better)" for one in differences
    )
