"""A revision: what the stages of one revision predicted, and what they read for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.base.csv_files import parse_table
from headstart.base.errors import DataError, HeadstartError
from headstart.base.params import parse_yaml
from headstart.revisions.history import History
from headstart.revisions.lock import LockedStage, Stages
from headstart.tables.names import TRACKS
from headstart.tables.predictions import Predictions, check_predictions
from headstart.tables.rows import check_rows
from headstart.tables.split import SplitRow

_SPLIT = "data/split.csv"
_REMEDY = "Another edition of Headstart wrote it; compare revisions of one edition"


@dataclass(frozen=True)
class Run:
    """How one track of a revision came about.

    Attributes:
        predictions: Predictions on the test set.
        params: Value of each param that the track depends on, by dotted name, as the stages read them.
        sources: md5 of each file or folder of code and data that it depends on, by path.
        edited: Names of params whose value in params.yaml is another one now, so that the track is out of date.
    """

    predictions: Predictions
    params: Mapping[str, Any]
    sources: Mapping[str, str]
    edited: Sequence[str]


@dataclass(frozen=True)
class Revision:
    """One revision of the project.

    Attributes:
        name: Name that the user gave.
        commit: Commit, as hex digits; empty for the workspace.
        runs: Run of each track that the revision has, by track.
        images: Label and split of each image, by digest; None if the table was not read or is nowhere any more.
    """

    name: str
    commit: str
    runs: Mapping[str, Run]
    images: Mapping[str, SplitRow] | None

    @property
    def title(self) -> str:
        """The name, with the beginning of the commit if that says more."""
        is_known = not self.commit or self.commit.startswith(self.name)
        return self.name if is_known else f"{self.name} ({self.commit[:7]})"


def read_revision(history: History, name: str, tracks: Sequence[str] = TRACKS, *, has_images: bool = True) -> Revision:
    """Read a revision.

    Args:
        history: History of the project.
        name: Branch, tag, experiment or other revision, or `workspace`.
        tracks: Tracks to read.
        has_images: Whether to read the table of images too, which is long.

    Raises:
        DataError, TableError: The revision has no results, or they are damaged or nowhere any more. The message begins
            with the name.
        ParamsError: There is no such revision.
    """
    commit = history.commit(name)
    try:
        stages = history.stages(commit)
        outputs = {out.path: (name, out.md5) for name, stage in stages.items() for out in stage.outs}
        present = [track for track in tracks if f"predictions/{track}.csv" in outputs]
        if not present:
            wanted = " or ".join(f"predictions/{track}.csv" for track in tracks)
            raise DataError(f"dvc.lock lists no {wanted}. Run there: dvc repro, and commit dvc.lock")
        now = _flat(_sections(history.file(commit, "params.yaml")))
        runs = {}
        for track in present:
            path = f"predictions/{track}.csv"
            stage, md5 = outputs[path]
            data = history.output(commit, path, md5)
            predictions = check_predictions(*parse_table(data, path, _REMEDY), path, _REMEDY)
            runs[track] = _run(stages, stage, predictions, now)
        images = _images(history, commit, outputs[_SPLIT][1]) if has_images and _SPLIT in outputs else None
    except HeadstartError as error:
        raise type(error)(f"{name}: {error}") from error
    return Revision(name, commit, runs, images)


def _images(history: History, commit: str, md5: str) -> dict[str, SplitRow] | None:
    """Return the rows of the split table by digest; None if it is nowhere any more."""
    try:
        data = history.output(commit, _SPLIT, md5)
    except DataError:
        return None
    rows = check_rows(*parse_table(data, _SPLIT, _REMEDY), _SPLIT, SplitRow, _REMEDY)
    return {row.digest: row for row in rows}


def _run(stages: Stages, stage: str, predictions: Predictions, now: Mapping[str, Any]) -> Run:
    """Return the run of the track whose predictions a stage wrote.

    Args:
        stages: Stages of dvc.lock.
        stage: Name of the stage.
        predictions: Its predictions.
        now: Params of params.yaml by dotted name.
    """
    makers = {out.path: name for name, one in stages.items() for out in one.outs}
    params: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for one in _upstream(stages, makers, stage):
        params |= _flat(one.params.get("params.yaml", {}))
        sources |= {dep.path: dep.md5 for dep in one.deps if dep.path not in makers}
    edited = [name for name, value in params.items() if name not in now or now[name] != value]
    return Run(predictions, params, sources, edited)


def _upstream(stages: Stages, makers: Mapping[str, str], last: str) -> Iterator[LockedStage]:
    """Give a stage and all whose outputs it depends on, each once. `makers` are the stages of outputs, by path."""
    seen, waiting = {last}, [last]
    while waiting:
        stage = stages[waiting.pop()]
        yield stage
        before = {makers[dep.path] for dep in stage.deps if dep.path in makers}
        waiting += sorted(before - seen)
        seen |= before


def _sections(data: bytes | None) -> Mapping[str, Any]:
    return {} if data is None else parse_yaml(Path("params.yaml"), data)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name."""
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{prefix}{key}"
        leaves |= _flat(inner, f"{name}.") if isinstance(inner, Mapping) and inner else {name: inner}
    return leaves
