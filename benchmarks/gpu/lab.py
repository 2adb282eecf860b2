"""The lab: photos, networks and params for the sections of the GPU benchmark, in a scratch folder."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import nn
from torchvision import models

from benchmarks.photo_set import INDEX, make_photo_set, photo_bytes
from headstart.backbone.timm_source import TIMM_PREFIX
from headstart.base.files import sha256_file
from headstart.base.params import read_yaml
from headstart.base.threads import num_cores
from headstart.imaging.decode import decode
from headstart.imaging.transform import Transform
from headstart.sources.folder import Folder
from headstart.tables.index import IndexRow
from headstart.tables.split import SplitRow
from stages.index.build import build_index

CLASSES = ["a", "b"]
PACKAGED = "efficientnet_lite0"  # comes with its weights; the others get random ones, which cost the same
_CALIBRATION_IMAGES = 64


@dataclass(frozen=True)
class Lab:
    """What every section gets.

    Attributes:
        device: Device to check and measure, such as `cuda`.
        folder: Scratch folder, shared by all sections.
        is_small: Whether to do little work, to see that the sections run.
    """

    device: str
    folder: Path
    is_small: bool

    def size(self, full: int, small: int) -> int:
        """Return an amount of work."""
        return small if self.is_small else full

    def path(self, backbone: str, suffix: str) -> Path:
        """Return the path of a file of a backbone."""
        return self.folder / f"{backbone.replace('/', '_')}{suffix}"

    def photos(self, num: int) -> tuple[Path, list[IndexRow]]:
        """Return a folder of distinct JPEG photos of 500 x 375 pixels and its index."""
        folder = self.folder / f"photos{num}"
        if folder.exists():
            return folder, build_index(Folder(folder), Folder(folder).list_files(), INDEX, num_cores())
        return folder, make_photo_set(folder, None, num)

    def large_photos(self, num: int) -> tuple[Path, list[IndexRow]]:
        """Return a folder of distinct JPEG photos of 12 Mpx and its index."""
        folder = self.folder / f"large{num}"
        return folder, make_photo_set(folder, None, num, megapixels=12)

    def split(self, index: list[IndexRow]) -> list[SplitRow]:
        """Return a split: one image in eight chooses the epoch, 16 are the test set, all others train."""
        kinds = ["test"] * 16 + ["val"] * (len(index) // 8)
        kinds += ["train"] * (len(index) - len(kinds))
        return [
            SplitRow(row.digest, row.path, CLASSES[number % 2], kind, row.digest)
            for number, (row, kind) in enumerate(zip(index, kinds, strict=True))
        ]

    def sections(self, backbone: str, photos: Path, **changes: dict[str, Any]) -> dict[str, Any]:
        """Return the sections of params.yaml for a backbone and some photos.

        Args:
            backbone: Name of the backbone.
            photos: Folder of the photos.
            changes: For a section, the keys that differ from params.yaml. A mapping changes the keys that it names.
        """
        content: dict[str, Any] = copy.deepcopy(dict(read_yaml(Path("params.yaml"))))
        content["data"]["path"] = str(photos)
        content["backbone"] |= {"name": backbone} | self._weights(backbone)
        content["runtime"] |= {"device": self.device, "processes": 1}
        for section, keys in changes.items():
            for key, value in keys.items():
                old = content[section][key]
                content[section][key] = old | value if isinstance(value, dict) else value
        return content

    def network(self, backbone: str) -> nn.Module:
        """Return a network for a backbone's name, as its library builds it, in evaluation mode."""
        if backbone == PACKAGED:
            from headstart.backbone.build import build_backbone
            from headstart.backbone.params import BackboneParams

            section = read_yaml(Path("params.yaml"))["backbone"] | {"name": PACKAGED}
            return build_backbone(BackboneParams.model_validate(section)).network.eval()
        network = _random_network(backbone)
        network.load_state_dict(torch.load(self.path(backbone, ".pth"), weights_only=True))
        return network.eval()

    def _weights(self, backbone: str) -> dict[str, str | None]:
        if backbone == PACKAGED:
            return {"weights": "auto", "weights_sha256": None}
        path = self.path(backbone, ".pth")
        if not path.exists():
            torch.manual_seed(0)
            network = _random_network(backbone)
            _calibrate(network)
            torch.save(network.state_dict(), path)
        return {"weights": str(path), "weights_sha256": sha256_file(path)}


def _random_network(backbone: str) -> nn.Module:
    if backbone in models.list_models():
        network: nn.Module = models.get_model(backbone, weights=None)
        return network
    return timm.create_model(backbone.removeprefix(TIMM_PREFIX), pretrained=False)


def _calibrate(network: nn.Module) -> None:
    """Let every BatchNorm take its statistics from photos. Random weights would else give numbers out of range."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean over the batches
    transform = Transform(256, 224, False, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pixels = np.stack([transform.pixels(decode(data, 10**6).image) for data in photo_bytes(None)[:_CALIBRATION_IMAGES]])
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        network.train()((batch - 0.45) / 0.225)
    network.eval()
    for norm in norms:
        norm.momentum = 0.1
