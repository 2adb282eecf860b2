"""Fine-tuning against the tutorial's loop, images/s of an epoch: same network, batch, crops and optimizer.

The first epoch decodes every photo; later ones find their pixels in the cache. With `--megapixels` the photos are
large. Then small photos show what is left to gain, and one more rival resizes all photos to files before it trains.

python -m benchmarks.finetune [--photos FOLDER] [--num-photos 96] [--megapixels 12] [--num-rounds 3]
                              [--backbones efficientnet_lite0 resnet18] [--batches 4 32]
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from benchmarks.extract import params_of
from benchmarks.options import add_photo_options, add_rounds_option, add_size_option, make_parser
from benchmarks.photo_set import make_photo_set
from benchmarks.rounds import describe_ratios, machine, seconds_of, take_turns
from headstart.artifacts.features import open_features
from headstart.backbone.blocks import blocks_of
from headstart.backbone.build import build_backbone
from headstart.base.machine import cache_folder
from headstart.tables.index import IndexRow
from headstart.tables.split import SplitRow
from stages.extract.extraction import extract
from stages.finetune.params import Params
from stages.finetune.run import fine_tune

BACKBONES = ("efficientnet_lite0", "resnet18")
RIVAL = "tutorial loop"
CLASSES = ["a", "b"]
NUM_EPOCHS = 15
PRESIZED_PX = 438  # `finetune.source_px: auto` with the default `augmentation.min_area`


# As in the tutorial.
TRAIN = (transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip())
VALIDATE = (transforms.Resize(256), transforms.CenterCrop(224))


class Photos(Dataset[tuple[torch.Tensor, int]]):
    """The tutorial's data set: default loader, crop, ToTensor, Normalize."""

    def __init__(
        self, folder: Path, rows: Sequence[SplitRow], classes: Sequence[str], crop: Sequence[nn.Module] = TRAIN
    ) -> None:
        self.rows, self.folder, self.classes = rows, folder, classes
        normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.transform = transforms.Compose([*crop, transforms.ToTensor(), normalize])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        row = self.rows[number]
        return self.transform(default_loader(str(self.folder / row.path))), self.classes.index(row.label)


class Tutorial:
    """The tutorial's training phase: cross-entropy, SGD 0.001 with momentum 0.9, all layers in training mode."""

    def __init__(
        self, folder: Path, rows: Sequence[SplitRow], classes: Sequence[str], backbone: nn.Module, batch: int
    ) -> None:
        dim = backbone(torch.zeros(2, 3, 224, 224)).shape[1]
        self.network = nn.Sequential(backbone, nn.Linear(dim, len(classes))).requires_grad_(True)
        self.loader = DataLoader(Photos(folder, rows, classes), batch_size=batch, shuffle=True, num_workers=2)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.001, momentum=0.9)
        self.num = len(rows)

    def images_per_second(self) -> float:
        """Train for one epoch and return the speed."""
        return self.num / seconds_of(self.train_epoch)

    def train_epoch(self) -> None:
        """Train on every training image once."""
        self.network.train()
        for inputs, labels in self.loader:
            self.optimizer.zero_grad()
            outputs = self.network(inputs)
            loss = nn.functional.cross_entropy(outputs, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            float(loss.item())
            outputs.argmax(1)


def _presize(path: Path, target: Path) -> None:
    """Write a copy of a photo with the shorter side that `finetune` reduces photos to."""
    image = default_loader(str(path))
    transforms.functional.resize(image, [PRESIZED_PX]).save(target / path.name, quality=90)


def presize_all(paths: Sequence[Path], target: Path) -> None:
    """Write small copies of photos, as users of fastai do before they train, in as many processes as loaders have."""
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        list(pool.map(partial(_presize, target=target), paths))


class Bench:
    """Measures one backbone on one set of photos.

    Args:
        name: Name of the backbone.
        folder: Folder of the photos.
        index: Their index.
        root: Folder for what the runs write.
        batch: Images per step.
    """

    def __init__(self, name: str, folder: Path, index: Sequence[IndexRow], root: Path, batch: int) -> None:
        self._folder, self._index, self._root, self._batch = folder, index, root, batch
        self._extract_params = params_of(name, folder, root)
        extract(list(index), self._extract_params, root / "features.h5", root / "store")
        # Two images are the test set and one in eight is the inner validation; all others train.
        kinds = ["test", "test", *(["val"] * (len(index) // 8))]
        kinds += ["train"] * (len(index) - len(kinds))
        self._split = [
            SplitRow(row.digest, row.path, CLASSES[number % 2], kind, row.digest)
            for number, (row, kind) in enumerate(zip(index, kinds, strict=True))
        ]
        self.training = [row for row in self._split if row.split == "train"]

    def network(self) -> nn.Module:
        """Return the backbone without a head."""
        return build_backbone(self._extract_params.backbone).network

    def tutorial(self, folder: Path | None = None) -> Tutorial:
        """Return the tutorial's loop, over other copies of the photos if a folder has them."""
        rows = self.training if folder is None else [replace(row, path=Path(row.path).name) for row in self.training]
        return Tutorial(folder or self._folder, rows, CLASSES, self.network(), self._batch)

    def first_epoch(self) -> float:
        """Return images/s of an epoch that decodes every photo and keeps the pixels."""
        shutil.rmtree(cache_folder() / "pixels", ignore_errors=True)
        return self.epoch()

    def epoch(self, *, batch_norm: str = "train", unfreeze: str = "all", augmentation: str = "crop") -> float:
        """Train for one epoch as `finetune` does. Return images/s of training alone, as for the tutorial."""
        content = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))["finetune"]
        content |= {"init": "random", "epochs": 1, "batch": self._batch, "source_px": PRESIZED_PX}
        content |= {"batch_norm": batch_norm, "unfreeze": unfreeze}
        content["schedule"] |= {"kind": "constant", "warmup_epochs": 0}
        content["augmentation"] |= {"kind": augmentation, "min_area": 0.08}
        content["optimizer"] |= {"kind": "sgd", "backbone_rate": 0.001, "head_rate": 0.001, "layer_decay": 1.0}
        content["optimizer"] |= {"weight_decay": 0.0, "clip": None}
        sections = self._extract_params.model_dump()
        runtime = sections["runtime"] | {"pixels": 2**33}
        params = Params(finetune=content, data=sections["data"], backbone=sections["backbone"], runtime=runtime)
        with open_features(self._root / "features.h5") as features:
            tuned = fine_tune(
                features,
                self._index,
                self._split,
                classes=CLASSES,
                split_sha256="",
                params=params,
                watch=lambda _: None,
            )
        assert tuned is not None
        tuned.checkpoint.remove()
        return tuned.timings.num_images / tuned.timings.training_seconds

    def compare(self, num_rounds: int) -> None:
        """Let the ways to train on these photos take turns, and print the results."""
        later = blocks_of(self.network(), 224)[-2]
        contestants = {
            RIVAL: self.tutorial().images_per_second,
            "fine-tune, first epoch": self.first_epoch,
            "later epochs": self.epoch,
            "frozen BatchNorm": lambda: self.epoch(batch_norm="frozen"),
            f"from {later}": lambda: self.epoch(unfreeze=later, augmentation="none"),
        }
        print(describe_ratios(take_turns(contestants, num_rounds), RIVAL))

    def compare_large(self, small: "Bench", num_rounds: int) -> None:
        """Let the ways to train on large photos take turns with fine-tuning on small ones, and print the results."""
        presized = self._root / "presized"
        presized.mkdir()
        paths = [self._folder / row.path for row in self.training]

        def on_small() -> float:
            small.epoch()  # fills the cache
            return small.epoch()

        contestants = {
            RIVAL: self.tutorial().images_per_second,
            "resize all to files": lambda: len(paths) / seconds_of(lambda: presize_all(paths, presized)),
            "tutorial on those files": lambda: self.tutorial(presized).images_per_second(),
            "fine-tune, first epoch": self.first_epoch,
            "later epochs": self.epoch,
            "later, frozen BatchNorm": lambda: self.epoch(batch_norm="frozen"),
            "later, small photos": on_small,
        }
        results = take_turns(contestants, num_rounds)
        print(describe_ratios(results, RIVAL))
        seconds = {name: 1 / np.array(values) for name, values in results.items()}
        of_small = seconds["later, small photos"] / seconds["later epochs"]
        print(f"  later epochs, large photos / small ones: {np.median(of_small):.2f}")
        ours = seconds["fine-tune, first epoch"] + (NUM_EPOCHS - 1) * seconds["later epochs"]
        theirs = NUM_EPOCHS * seconds[RIVAL] / ours
        resized = (seconds["resize all to files"] + NUM_EPOCHS * seconds["tutorial on those files"]) / ours
        print(
            f"  {NUM_EPOCHS} epochs: {np.median(theirs):.2f} x {RIVAL}, {np.median(resized):.2f} x that on small files"
        )


def main() -> None:
    """Measure every backbone at every batch."""
    parser = make_parser(__doc__)
    text = "names of backbones (default: %(default)s)"
    parser.add_argument("--backbones", nargs="*", default=BACKBONES, metavar="BACKBONE", help=text)
    add_photo_options(parser, 96)
    add_size_option(parser)
    add_rounds_option(parser)
    text = "images per step (default: %(default)s)"
    parser.add_argument("--batches", type=int, nargs="*", default=[4, 32], help=text)
    given = parser.parse_args()
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} torch threads")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DVC_ROOT"] = scratch  # where checkpoints and pixels are written
        folder, small = Path(scratch) / "photos", Path(scratch) / "small"
        index = make_photo_set(folder, given.photos, given.num_photos, given.megapixels)
        small_index = make_photo_set(small, given.photos, given.num_photos) if given.megapixels else []
        for name, batch in product(given.backbones, given.batches):
            root = Path(scratch) / f"{name}-{batch}"
            (root / "small").mkdir(parents=True)
            bench = Bench(name, folder, index, root, batch)
            print(f"{name}, batch {batch}, images/s of an epoch, {len(bench.training)} photos:")
            if given.megapixels:
                bench.compare_large(Bench(name, small, small_index, root / "small", batch), given.num_rounds)
            else:
                bench.compare(given.num_rounds)


if __name__ == "__main__":
    main()
