"""Checks of several processes: fine-tuning on two GPUs trains what one GPU trains."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from ruamel.yaml import YAML

from benchmarks.gpu.lab import CLASSES, PACKAGED, Lab
from benchmarks.gpu.outcomes import Check, Outcome, Skip, below
from benchmarks.workspace import ROOT
from headstart.tables.classes import write_classes
from headstart.tables.finetune import EpochPoint
from headstart.tables.index import IndexRow
from headstart.tables.rows import read_rows, write_rows
from headstart.tables.split import SplitRow
from stages.extract.extraction import extract
from stages.extract.params import Params as ExtractParams


def ranks(lab: Lab) -> Iterator[Outcome]:
    """Run the stage `finetune` with one process and with two, each with a GPU of its own."""
    num = torch.cuda.device_count() if lab.device.startswith("cuda") else 2
    if num < 2:  # NCCL refuses two processes on one GPU
        yield Skip("fine-tune on two GPUs", f"this machine has {num}")
        return
    project = _make_project(lab)
    ends = []
    for num_processes in (1, 2):
        problem = _fine_tune(project, num_processes)
        if problem:
            yield Check(f"fine-tune, {num_processes} processes", ok=False, value=problem, limit="trains")
            return
        ends.append(read_rows(project / "plots/finetune_training/curve.csv", EpochPoint)[-1])
    alone, together = ends
    assert alone.training_loss is not None, "the epoch was trained"
    assert together.training_loss is not None, "the epoch was trained"
    name = "fine-tune, two GPUs against one"
    yield below(f"{name}: training loss", abs(together.training_loss / alone.training_loss - 1), 0.01)
    yield below(f"{name}: loss after the epoch", abs(together.log_loss / alone.log_loss - 1), 0.01)


def _make_project(lab: Lab) -> Path:
    """Make a folder that has what `python -m stages.finetune` reads."""
    project = lab.folder / "ranks"
    photos, index = lab.photos(lab.size(640, 48))
    for name in ("headstart", "stages"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).symlink_to(ROOT / name)
    content = lab.sections(PACKAGED, photos, finetune={"epochs": 1, "precision": "float32"})
    content["finetune"]["schedule"] |= {"warmup_epochs": 0, "kind": "constant"}
    YAML().dump(content, project / "params.yaml")
    write_rows(project / "data/index.csv", index, IndexRow)
    write_rows(project / "data/split.csv", lab.split(index), SplitRow)
    write_classes(project / "data/classes.json", CLASSES)
    params = ExtractParams.model_validate({name: content[name] for name in ExtractParams.model_fields})
    extract(index, params, project / "features/features.h5", lab.folder / "training_store")
    return project


def _fine_tune(project: Path, num_processes: int) -> str:
    """Run the stage, and return what it says if it fails; nothing if it succeeds."""
    yaml = YAML()
    content = yaml.load(project / "params.yaml")
    content["runtime"]["processes"] = num_processes
    yaml.dump(content, project / "params.yaml")
    command = [sys.executable, "-W", "ignore", "-m", "stages.finetune"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done.stderr.strip()[-200:] if done.returncode else ""
