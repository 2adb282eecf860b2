"""Weights: the file that the parameters of a backbone come from. No code in the file is ever run."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from headstart.backbone.packaged import NEEDS_NO_DOWNLOAD
from headstart.backbone.params import BackboneParams
from headstart.base.download import download
from headstart.base.errors import BackboneError
from headstart.base.files import sha256_file

_WEIGHTS = (".weight", ".bias", ".running_mean", ".running_var")


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
        """Return its tensors by name, on the CPU. Other objects are never unpickled.

        Raises:
            BackboneError: The file is damaged, or holds something other than tensors, weights that are no
                floating-point numbers, or numbers that are not finite.
        """
        tensors = self._read()
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                if name.endswith(_WEIGHTS):  # torch would copy quantised weights as if they were not
                    raise BackboneError(f"{self.path}: {name} is {tensor.dtype}; expected floating-point numbers")
            elif not tensor.float().isfinite().all():
                raise BackboneError(f"{self.path}: {name} has numbers that are not finite: the file is damaged")
        return tensors

    def _read(self) -> dict[str, torch.Tensor]:
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


def file_weights(backbone: BackboneParams) -> WeightsFile:
    """Return the file that `backbone.weights` names by a path or a URL, after checking `backbone.weights_sha256`.

    Raises:
        BackboneError: The file does not exist, or has another digest.
        DownloadError: The URL does not give the file.
    """
    sha256 = backbone.weights_sha256 or ""
    if "://" not in backbone.weights:
        path = Path(backbone.weights)
        if not path.is_file():
            raise BackboneError(f"backbone.weights: {path} is no file; expected one, relative to the project's root")
        return checked_file(path, sha256, "If the file is the right one, set backbone.weights_sha256 to its sha256.")
    name = Path(urlsplit(backbone.weights).path).name
    return url_weights(backbone.weights, cache_dir() / f"{sha256[:16]}-{name}", sha256)


def url_weights(url: str, path: Path, sha256_prefix: str) -> WeightsFile:
    """Return the file at `path`. If it does not exist, fetch it from `url` first.

    Args:
        url: Address of the file.
        path: Path of the file on this machine.
        sha256_prefix: As for `checked_file`.

    Raises:
        DownloadError: It cannot be fetched. The message says where to put it by hand, and which backbone needs no
            download.
        BackboneError: A file with another digest lies at `path` already.
    """
    if not path.exists():
        download(
            url,
            path,
            sha256_prefix=sha256_prefix,
            stage="weights",
            remedy=f"Fetch it by hand and put it at {path}, then run again. {NEEDS_NO_DOWNLOAD}",
        )
    return checked_file(path, sha256_prefix, f"Delete it and run again, or put the right file there ({url}).")


def checked_file(path: Path, sha256_prefix: str, remedy: str) -> WeightsFile:
    """Return a file of weights whose digest begins as it should.

    Args:
        path: Path of the file.
        sha256_prefix: First digits of its sha256, or all of them; empty: any digest.
        remedy: What to do if it begins otherwise, for the message.

    Raises:
        BackboneError: The file has another digest.
    """
    sha256 = sha256_file(path)
    if not sha256.startswith(sha256_prefix):
        raise BackboneError(f"{path}: sha256 is {sha256}, expected {sha256_prefix}. {remedy}")
    return WeightsFile(path, sha256)
