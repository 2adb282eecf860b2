"""Fine-tuning against the tutorial's loop, images/s of an epoch: same network, batch, crops and optimizer.

python -m benchmarks.finetune [--photos FOLDER] [--num-photos 96] [--num-rounds 3] [--batches 4 32] [BACKBONE ...]
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from ruamel.yaml import YAML
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from benchmarks.extract import params_of
from benchmarks.options import add_photo_options, add_rounds_option, make_parser
from benchmarks.photo_set import make_photo_set
from benchmarks.rounds import describe_ratios, machine, seconds_of, take_turns
from headstart.artifacts.features import open_features
from headstart.backbone.blocks import blocks_of
from headstart.backbone.build import build_backbone
from headstart.tables.index import IndexRow
from headstart.tables.split import SplitRow
from stages.extract.extraction import extract
from stages.finetune.params import Params
from stages.finetune.run import fine_tune

BACKBONES = ("efficientnet_lite0", "resnet18")
RIVAL = "tutorial loop"
CLASSES = ["a", "b"]


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


def tuning_images_per_second(
    features_path: Path, index: Sequence[IndexRow], split: Sequence[SplitRow], params: Params
) -> float:
    """Train for one epoch as `finetune` does and return the speed of training alone, as for the tutorial."""
    with open_features(features_path) as features:
        tuned = fine_tune(features, index, split, classes=CLASSES, split_sha256="", params=params, watch=lambda _: None)
    assert tuned is not None
    tuned.checkpoint.remove()
    return tuned.timings.num_images / tuned.timings.training_seconds


def measure(name: str, folder: Path, index: Sequence[IndexRow], root: Path, *, batch: int, num_rounds: int) -> None:
    """Measure one backbone at one batch and print the results."""
    extract_params = params_of(name, folder, root)
    features_path = root / "features.h5"
    extract(index, extract_params, features_path, root / "store")
    # Two images are the test set and one in eight is the inner validation; all others train.
    kinds = ["test", "test", *(["val"] * (len(index) // 8))]
    kinds += ["train"] * (len(index) - len(kinds))
    split = [
        SplitRow(row.digest, row.path, CLASSES[number % 2], kind, row.digest)
        for number, (row, kind) in enumerate(zip(index, kinds, strict=True))
    ]

    def params(*, batch_norm: str = "train", unfreeze: str = "all", augmentation: str = "crop") -> Params:
        content = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))["finetune"]
        content |= {"init": "random", "epochs": 1, "batch": batch, "batch_norm": batch_norm, "unfreeze": unfreeze}
        content["schedule"] |= {"kind": "constant", "warmup_epochs": 0}
        content["augmentation"] |= {"kind": augmentation, "min_area": 0.08}
        content["optimizer"] |= {"kind": "sgd", "backbone_rate": 0.001, "head_rate": 0.001, "layer_decay": 1.0}
        content["optimizer"] |= {"weight_decay": 0.0, "clip": None}
        sections = extract_params.model_dump()
        return Params(finetune=content, **{name: sections[name] for name in ("data", "backbone", "runtime")})

    backbone = build_backbone(extract_params.backbone).network
    later = blocks_of(backbone, 224)[-2]
    training = [row for row in split if row.split == "train"]
    tutorial = Tutorial(folder, training, CLASSES, build_backbone(extract_params.backbone).network, batch)
    contestants = {
        RIVAL: tutorial.images_per_second,
        "fine-tune": lambda: tuning_images_per_second(features_path, index, split, params()),
        "fine-tune, frozen BatchNorm": lambda: tuning_images_per_second(
            features_path, index, split, params(batch_norm="frozen")
        ),
        f"fine-tune from {later}": lambda: tuning_images_per_second(
            features_path, index, split, params(unfreeze=later, augmentation="none")
        ),
    }
    results = take_turns(contestants, num_rounds)
    print(f"{name}, batch {batch}, images/s of an epoch, {len(training)} photos:\n{describe_ratios(results, RIVAL)}")


def main() -> None:
    """Measure every backbone at every batch."""
    parser = make_parser(__doc__)
    text = "names of backbones (default: %(default)s)"
    parser.add_argument("backbones", nargs="*", default=BACKBONES, metavar="BACKBONE", help=text)
    add_photo_options(parser, 96)
    add_rounds_option(parser)
    text = "images per step (default: %(default)s)"
    parser.add_argument("--batches", type=int, nargs="*", default=[4, 32], help=text)
    given = parser.parse_args()
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} torch threads")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DVC_ROOT"] = scratch  # where checkpoints are written
        folder = Path(scratch) / "photos"
        index = make_photo_set(folder, given.photos, given.num_photos)
        for name in given.backbones:
            root = Path(scratch) / name
            root.mkdir()
            for batch in given.batches:
                measure(name, folder, index, root, batch=batch, num_rounds=given.num_rounds)


if __name__ == "__main__":
    main()
