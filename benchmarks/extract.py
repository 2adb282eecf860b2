"""Extract against the tutorials' loop, and against its own engine on ready pictures; 1 % new images; peak memory.

python -m benchmarks.extract [--photos FOLDER] [--num 800] [--rounds 3] [BACKBONE ...]
"""

import argparse
import resource
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms
from torchvision.datasets.folder import default_loader

from benchmarks.photo_set import make_photo_set
from benchmarks.rounds import describe_ratios, machine, seconds_of, take_turns
from headstart.backbone.build import build_backbone
from headstart.backbone.params import BackboneParams
from headstart.base.files import sha256_file
from headstart.imaging.clock import Clock
from headstart.tables.index import IndexRow
from stages.extract.embedder import make_embedder
from stages.extract.extraction import extract
from stages.extract.params import Params

BACKBONES = ("efficientnet_lite0", "resnet18", "resnet50")
RIVAL = "tutorial loop"


class Photos(Dataset[torch.Tensor]):
    """The tutorials' data set: default loader, Resize, CenterCrop, ToTensor, Normalize."""

    def __init__(self, folder: Path, rows: list[IndexRow]) -> None:
        self.paths = [folder / row.path for row in rows]
        self.transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.transform(default_loader(str(self.paths[number])))


def tutorial_images_per_second(folder: Path, rows: list[IndexRow], network: torch.nn.Module) -> float:
    """Run the tutorials' feature loop, at a batch and number of loader processes that suit two cores."""
    loader = DataLoader(Photos(folder, rows), batch_size=32, num_workers=2)

    def loop() -> None:
        with torch.no_grad():
            for inputs in loader:
                network(inputs).numpy()

    return len(rows) / seconds_of(loop)


def params_of(name: str, folder: Path, weights: Path) -> Params:
    """Return the params for a backbone; torchvision's get random weights, which cost the same."""
    values: dict[str, Any] = {"name": name, "weights": "auto", "weights_sha256": None}
    if name != "efficientnet_lite0":
        path = weights / f"{name}.pth"
        torch.save(models.get_model(name, weights=None).state_dict(), path)
        values |= {"weights": str(path), "weights_sha256": sha256_file(path)}
    runtime = {"device": "auto", "processes": 1, "engine": "auto", "compile": False, "workers": "auto", "batch": "auto"}
    return Params.model_validate(
        {
            "data": {"path": str(folder)},
            "backbone": values | {"layers": "auto", "pooling": "mean"},
            "transform": {"px": 224},
            "extract": {"views": 1, "seed": 0, "precision": "float32"},
            "runtime": runtime | {"memory": 2**30, "store": "auto"},
        }
    )


def measure(params: Params, folder: Path, rows: list[IndexRow], root: Path, num_rounds: int) -> None:
    """Let the contestants take turns on one backbone and print what came out."""
    run = partial(extract, params=params, path=root / "features.h5")
    run(rows[:4], root=root / "export")  # the export is no part of any round
    engine = make_embedder(params, 375, root / "export", Clock()).engine
    network = build_backbone(BackboneParams.model_validate(params.backbone.model_dump())).network
    pixels = np.random.default_rng(0).integers(0, 256, size=(engine.batch, 224, 224, 3), dtype=np.uint8)
    num_batches = max(8, len(rows) // engine.batch // 2)

    def engine_alone() -> float:
        with ThreadPoolExecutor(engine.num_parallel) as pool:
            seconds = seconds_of(lambda: list(pool.map(engine.embed, [pixels] * num_batches)))
        return num_batches * engine.batch / seconds

    stores = iter(range(100))

    def ours() -> float:
        store = root / f"store{next(stores)}"
        store.mkdir()
        (store / "engines").symlink_to((root / "export" / "engines").resolve())
        done = run(rows, root=store)
        assert done.num_embedded == len(rows)
        return done.num_embedded / done.embedding_seconds

    results = take_turns(
        {
            RIVAL: lambda: tutorial_images_per_second(folder, rows[: max(64, len(rows) // 8)], network),
            "engine alone": engine_alone,
            "extract": ours,
        },
        num_rounds,
    )
    print(f"{params.backbone.name}, images/s, {len(rows)} photos:\n{describe_ratios(results, RIVAL)}")
    shares = [mine / alone for mine, alone in zip(results["extract"], results["engine alone"], strict=True)]
    print(f"  extract / engine alone: {np.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})")

    store = root / "store0"
    num_new = max(1, len(rows) // 100)
    old = rows[num_new:]
    part = root / "part"
    part.mkdir()
    (part / "engines").symlink_to((root / "export" / "engines").resolve())
    full = seconds_of(lambda: run(old, root=part))
    warm = seconds_of(lambda: run(old, root=part))
    one_percent = seconds_of(lambda: run(rows, root=part))
    print(
        f"  all: {full:.1f} s; nothing new: {warm:.2f} s; {num_new} of {len(rows)} new: {one_percent:.2f} s, that is "
        f"{100 * (one_percent - warm) / full:.1f} % of all beyond the start; store {store.name}"
    )


def main() -> None:
    """Measure every backbone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("backbones", nargs="*", default=BACKBONES)
    parser.add_argument("--photos", type=Path, help="folder of real JPEG photos; generated ones without it")
    parser.add_argument("--num", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} torch threads")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        rows = make_photo_set(folder, given.photos, given.num)
        for name in given.backbones:
            root = Path(scratch) / name
            root.mkdir()
            measure(params_of(name, folder, root), folder, rows, root, given.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process, torch and the rival included: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
