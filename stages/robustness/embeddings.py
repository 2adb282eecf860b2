"""The embeddings of the pictures, kept in the project's cache. They take nearly all of the stage's time.

    .cache/robustness/<track>.safetensors    `embeddings`, float32 (P, views, dim); before it key and sha256

An edit of the head changes no embedding. Each track has one file, which the next run with another key replaces. So the
cache does not grow. The files may be deleted at any time.
"""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import Bundle
from headstart.artifacts.kept import KeptTensors
from headstart.base.files import code_digests, sha256_json
from headstart.base.machine import cache_folder
from stages.robustness.sample import DrawnImage

_PACKAGES = ("numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")
_CODE = (
    *("headstart/artifacts/kept.py", "headstart/backbone", "headstart/engines", "headstart/imaging"),
    *("headstart/predict", "stages/robustness"),
)
_NAME = "embeddings"


def pictures_key(images: Sequence[DrawnImage], seed: int, bundle: Bundle) -> str:
    """Return the key of the pictures, a sha256 of all that they depend on besides the code.

    Args:
        images: The images that are shown, in their order.
        seed: Seed of the noise.
        bundle: The bundle whose transform decides how large the pictures are.
    """
    digests = [image.row.digest for image in images]
    sees = {key: bundle.spec.get(key) for key in ("transform", "decode")}
    return sha256_json({"images": digests, "seed": seed, **sees})


class KeptEmbeddings:
    """The embeddings of one track on disk.

    Attributes:
        path: `.cache/robustness/<track>.safetensors` of the project (see `cache_folder`).

    Args:
        bundle: Bundle of the track. The weights of its head do not matter.
        model_sha256: sha256 of the bundle's tensors. It matters only if the network is among them.
        pictures: Key of the pictures.
        device: Type of the device, such as `cpu`, on which the last bits depend.
    """

    def __init__(self, bundle: Bundle, model_sha256: str, pictures: str, device: str) -> None:
        self.path = cache_folder() / "robustness" / f"{bundle.track}.safetensors"
        key = sha256_json({
            "track": bundle.track,
            "spec": dict(bundle.spec),
            "layers": list(bundle.layers),
            "network": model_sha256 if bundle.backbone else None,
            "pictures": pictures,
            "device": device,
            "versions": {name: version(name) for name in _PACKAGES},
            "code": code_digests(*_CODE),
        })  # fmt: skip
        self._kept = KeptTensors(self.path, key, "robustness")

    def load(self) -> NDArray[np.float32] | None:
        """Return the embeddings (P, views, dim). None: there are none of this key, or the file is damaged."""
        found = self._kept.load()
        return None if found is None else found[0][_NAME]

    def save(self, embeddings: NDArray[np.float32]) -> None:
        """Replace the file, whole or not at all. Where it cannot be written, say so: the next run takes longer.

        Args:
            embeddings: Embeddings (P, views, dim).
        """
        self._kept.save({_NAME: embeddings}, None)
