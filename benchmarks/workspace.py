"""Projects to measure in: the params for a folder of photos, and made-up results of every stage but the report.

The tests of the report use the results too.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from headstart.artifacts.bundle import SCHEMA
from headstart.base.files import write_json
from headstart.tables.finetune import EpochPoint, SampleRow
from headstart.tables.head import LabelSuspect, LayerScore, LearningPoint, NearDuplicate
from headstart.tables.index import STATUSES, IndexRow
from headstart.tables.metrics import write_metrics
from headstart.tables.names import SPLITS
from headstart.tables.predictions import Predictions, write_predictions
from headstart.tables.projection import ProjectedImage
from headstart.tables.robustness import Accuracy, Condition, Robustness, write_robustness
from headstart.tables.rows import write_rows
from headstart.tables.split import SplitRow

ROOT = Path(__file__).parents[1]


def write_params(project: Path, data_path: str, **changes: Mapping[str, object]) -> None:
    """Write params.yaml of this project into another folder, with `data.path` and other keys changed.

    Args:
        project: The other folder.
        data_path: Folder of the images.
        changes: New values by key, for each section that changes.
    """
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["data"]["path"] = data_path
    for section, values in changes.items():
        params[section].update(values)
    with (project / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def write_results(
    root: Path,
    index: Sequence[IndexRow],
    split: Sequence[SplitRow],
    classes: Sequence[str],
    layer: str,
    *,
    num_suspects: int = 1,
    num_mapped: int = 2000,
) -> None:
    """Write made-up results of the stages before `evaluate`, then run `evaluate` and `compare`.

    Args:
        root: Root of the project, with params.yaml and the photos.
        index: The index of the photos.
        split: Label and split of each photo.
        classes: Names of the classes, in the order of the logits.
        layer: Name of a layer before the last.
        num_suspects: Number of suspected label errors, and of near-duplicates.
        num_mapped: Largest number of images on the map.
    """
    random = np.random.default_rng(0)
    write_rows(root / "data/index.csv", index, IndexRow)
    write_rows(root / "data/split.csv", split, SplitRow)
    test, training = ([row for row in split if (row.split == "test") == is_test] for is_test in (True, False))
    targets = np.array([classes.index(row.label) for row in test])
    for track, strength in (("head", 1.0), ("finetune", 3.0)):
        logits = random.normal(size=(len(test), len(classes))) + strength * np.eye(len(classes))[targets]
        digests, paths, labels = ([getattr(row, name) for row in test] for name in ("digest", "path", "label"))
        write_predictions(root / f"predictions/{track}.csv", Predictions(digests, paths, labels, classes, logits))
        config = {
            "schema": SCHEMA,
            "track": track,
            "classes": list(classes),
            "model_sha256": "1" * 64,
            "references_sha256": "2" * 64,
            "layers": ["last"],
            "dims": [1280],
            "spec": {
                "backbone": layer,
                "weights_sha256": "0" * 64,
                "transform": {"crop_px": 64},
                "views": [{}],
                "decode": "rgb",
            },
            "trained_on": {"num_images": len(training), "split_sha256": "3" * 64, "epoch": 0},
            "calibration": {"temperature": 1.0},
        }
        write_json(root / f"models/{track}/config.json", config)
    pairs = list(zip(training, test[::2], strict=False))[:num_suspects]
    tables: dict[str, tuple[type[Any], list[Any]]] = {
        "plots/head_training/layers.csv": (
            LayerScore,
            [
                LayerScore(1, layer, 1, 8, 0.9, 0.8, 0.95, log_loss=0.3, c=1.0, chosen=0),
                LayerScore(2, "last", 1, 8, 0.95, 0.9, 0.98, log_loss=0.2, c=1.0, chosen=1),
            ],
        ),
        "plots/head_training/learning.csv": (
            LearningPoint,
            [LearningPoint(4 * 2**step, 0.7 + 0.05 * step, 0.6 + 0.04 * step, 0.9 + 0.03 * step) for step in range(4)],
        ),
        "plots/finetune_training/curve.csv": (
            EpochPoint,
            [
                EpochPoint(step, 0.8 - 0.02 * step, 0.8, 0.5, 0.5, 0.4 if step else None, 1.0, int(step == 0))
                for step in range(3)
            ],
        ),
        "diagnostics/head/label_suspects.csv": (
            LabelSuspect,
            [
                LabelSuspect(one.digest, one.path, one.label, 0.01 * place, _after(one.label, classes), 0.9)
                for place, (one, _) in enumerate(pairs, start=1)
            ],
        ),
        "diagnostics/head/near_duplicates.csv": (
            NearDuplicate,
            [
                NearDuplicate(
                    *(other.digest, other.path, other.label, one.digest, one.path, one.label), similarity=0.97
                )
                for one, other in pairs
            ],
        ),
        "diagnostics/projection.csv": (
            ProjectedImage,
            [ProjectedImage(row.digest, *random.normal(size=4).tolist()) for row in split[:num_mapped]],
        ),
    }
    for name, (kind, rows) in tables.items():
        write_rows(root / name, rows, kind)
    counts = {"num_files": len(index), "num_classes": len(classes)}
    counts |= {"num_relabelled": 3, "num_dropped": 2, "num_unlabelled": 7, "num_across_splits": 1}
    counts |= {f"num_{name}": sum(row.split == name for row in split) for name in SPLITS}
    counts |= {f"num_{status}": sum(row.status == status for row in index) for status in STATUSES}
    write_metrics(root / "diagnostics/data.json", counts)
    write_metrics(root / "diagnostics/extract.json", {"num_views": 1})
    gain = {"doubling_gain": 0.01, "doubling_gain_low": -0.01, "doubling_gain_high": 0.03}
    write_metrics(root / "diagnostics/head_training.json", gain)
    tuned = {
        "kept_epoch": 0,
        "kept_share": 1.0,
        "augmentation": "crop",
        "num_epochs": 2,
        "num_training_images": 16,
        "backbone_rate": 1e-3,
        "layer_decay": 0.8,
    }
    write_metrics(root / "diagnostics/finetune_training.json", tuned)
    samples = [SampleRow(f"{place}.webp", one.path, one.label, 160, 20) for place, one in enumerate(training[:6])]
    write_rows(root / "diagnostics/finetune_batch/images.csv", samples, SampleRow)
    for sample in samples:
        Image.new("RGB", (7 * 134 - 6, 128)).save(root / "diagnostics/finetune_batch" / sample.file)
    accuracies = Accuracy(0.6, 0.5, 0.7), Accuracy(0.8, 0.7, 0.9)
    conditions = [Condition(name, f"{name} <b>", *accuracies, 0.2, 0.1, 0.3, 0.01) for name in ("unshifted", "blur")]
    write_robustness(root / "diagnostics/robustness.json", Robustness(len(test), conditions, 0.6, 0.8))
    for words in ("evaluate head", "evaluate finetune", "compare"):
        run_main(root, *words.split())


def _after(label: str, classes: Sequence[str]) -> str:
    return classes[(classes.index(label) + 1) % len(classes)]


def run_main(root: Path, stage: str, *arguments: str) -> str:
    """Run a stage in a project and return what it printed."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", f"stages.{stage}", *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
