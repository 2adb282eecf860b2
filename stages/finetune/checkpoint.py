"""The checkpoint of a run, from which a killed run continues. It lies outside DVC's outputs.

Each run has its own checkpoint. Its name is a key of everything that the run depends on.
"""

import io
import shutil
from importlib.metadata import version
from typing import Any

import torch

from headstart.base.errors import TrainingError
from headstart.base.files import code_digests, sha256_json
from headstart.base.kept import read_kept, write_kept
from headstart.base.machine import cache_folder
from stages.finetune.params import Params

_PACKAGES = ("numpy", "pillow", "scikit-learn", "scipy", "timm", "torch", "torchvision")
_CODE = (
    *("headstart/artifacts/features.py", "headstart/backbone", "headstart/imaging", "headstart/linear"),
    "stages/finetune",
)
_NAME = "checkpoint.pt"


def run_key(params: Params, features: str, data: dict[str, str], device: str) -> str:
    """Return the key of a run, a sha256 of all that its results depend on.

    Args:
        params: Params of the stage. The section `runtime` is left out, because it does not change results.
        features: Fingerprint of the spec.
        data: Digests of the tables that the run reads.
        device: Type of the device, such as `cpu`, on which the last bits depend.
    """
    return sha256_json(
        {
            "params": {name: getattr(params, name).model_dump() for name in ("data", "backbone", "finetune")},
            "features": features,
            "data": data,
            "device": device,
            "versions": {name: version(name) for name in _PACKAGES},
            "code": code_digests(*_CODE),
        }
    )


class Checkpoint:
    """The state of one run on disk.

    Attributes:
        folder: `.cache/finetune/<key>` of the project (see `cache_folder`).

    Args:
        key: Key of the run.
        part: Name of a further training of the run, whose folder lies below that of the first; empty for the first.
    """

    def __init__(self, key: str, part: str = "") -> None:
        self._key = key
        self.folder = cache_folder() / "finetune" / key / part
        self._path = self.folder / _NAME

    def part(self, name: str) -> "Checkpoint":
        """Return the checkpoint of another training of the same run, in a folder below this one."""
        return Checkpoint(self._key, name)

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last. None: there is no state, or it is damaged or belongs to another run."""
        data = read_kept(self._path, self._key, "finetune")
        if data is None:
            return None
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return content

    def save(self, content: dict[str, Any]) -> None:
        """Replace the saved state. The file is written whole or not at all.

        Raises:
            TrainingError: The file cannot be written.
        """
        state = io.BytesIO()
        torch.save(content, state)
        try:
            write_kept(self._path, self._key, state.getbuffer())
        except OSError as error:
            raise TrainingError(
                f"{self._path}: cannot be written (is the disk full?): {error}. The next run continues after the last "
                "epoch that was saved"
            ) from error

    def remove(self) -> None:
        """Delete the folder of the run. Call it when the results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)
