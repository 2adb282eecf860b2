"""`extract` against the tutorials' loop and against its engine alone; a run with 1 % new images; peak memory.

python -m benchmarks.extract [--photos FOLDER] [--num-photos 800] [--megapixels 12] [--num-rounds 3] [BACKBONE ...]
"""

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

from benchmarks.options import add_photo_options, add_rounds_option, add_size_option, make_parser
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
    """Run the tutorials' loop over a data loader, with a batch and a number of loader processes that suit two cores."""
    loader = DataLoader(Photos(folder, rows), batch_size=32, num_workers=2)

    def loop() -> None:
        with torch.no_grad():
            for inputs in loader:
                network(inputs).numpy()

    return len(rows) / seconds_of(loop)


def params_of(name: str, folder: Path, weights: Path, decode: str = "scaled") -> Params:
    """Return the params for a backbone. Those of torchvision get random weights, with which they run as fast."""
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
            "transform": {"px": 224, "decode": decode},
            "extract": {"views": 1, "seed": 0, "precision": "float32"},
            # The default of 1 GiB is for a process of its own. This one also holds the rivals' memory.
            "runtime": runtime | {"memory": 2**33, "store": "auto", "pixels": 0},
        }
    )


def measure(name: str, folder: Path, rows: list[IndexRow], root: Path, num_rounds: int, *, are_large: bool) -> None:
    """Measure one backbone and print the results; with large photos also without reducing them."""
    params = params_of(name, folder, root)
    run = partial(extract, params=params, path=root / "features.h5")
    run(rows[:4], root=root / "export")  # exports the network, which no round should do
    engine = make_embedder(params, 375, root / "export", Clock()).engine
    network = build_backbone(BackboneParams.model_validate(params.backbone.model_dump())).network
    pixels = np.random.default_rng(0).integers(0, 256, size=(engine.batch, 224, 224, 3), dtype=np.uint8)
    num_batches = max(8, len(rows) // engine.batch // 2)

    def engine_alone() -> float:
        with ThreadPoolExecutor(engine.num_parallel) as pool:
            seconds = seconds_of(lambda: list(pool.map(engine.embed, [pixels] * num_batches)))
        return num_batches * engine.batch / seconds

    stores = iter(range(100))

    def whole_stage(params: Params) -> float:
        store = root / f"store{next(stores)}"
        store.mkdir()
        (store / "engines").symlink_to((root / "export" / "engines").resolve())
        done = run(rows, params=params, root=store)
        assert done.num_embedded == len(rows)
        return done.num_embedded / done.embedding_seconds

    contestants = {
        RIVAL: lambda: tutorial_images_per_second(folder, rows[: max(64, len(rows) // 8)], network),
        "engine alone": engine_alone,
        "extract": lambda: whole_stage(params),
    }
    if are_large:
        exact = params_of(name, folder, root, "exact")
        contestants["extract, decode exact"] = lambda: whole_stage(exact)
    results = take_turns(contestants, num_rounds)
    print(f"{params.backbone.name}, images/s, {len(rows)} photos:\n{describe_ratios(results, RIVAL)}")
    shares = [whole / alone for whole, alone in zip(results["extract"], results["engine alone"], strict=True)]
    print(f"  extract / engine alone: {np.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})")

    num_new = max(1, len(rows) // 100)
    old = rows[num_new:]
    part = root / "part"
    part.mkdir()
    (part / "engines").symlink_to((root / "export" / "engines").resolve())
    full = seconds_of(lambda: run(old, root=part))
    warm = seconds_of(lambda: run(old, root=part))
    one_percent = seconds_of(lambda: run(rows, root=part))
    print(
        f"  all images new: {full:.1f} s; none new: {warm:.2f} s; {num_new} of {len(rows)} new: {one_percent:.2f} s; "
        f"without the seconds of `none new` that is {100 * (one_percent - warm) / full:.1f} % of the first"
    )


def main() -> None:
    """Measure every backbone."""
    parser = make_parser(__doc__)
    text = "names of backbones (default: %(default)s)"
    parser.add_argument("backbones", nargs="*", default=BACKBONES, metavar="BACKBONE", help=text)
    add_photo_options(parser, 800)
    add_size_option(parser)
    add_rounds_option(parser)
    given = parser.parse_args()
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} torch threads")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        rows = make_photo_set(folder, given.photos, given.num_photos, given.megapixels)
        for name in given.backbones:
            root = Path(scratch) / name
            root.mkdir()
            measure(name, folder, rows, root, given.num_rounds, are_large=given.megapixels is not None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process, with torch and the tutorials' loop: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
