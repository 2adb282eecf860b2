"""The embeddings of the pictures, kept in the project's cache. They take nearly all of the stage's time.

    .cache/robustness/<track>.safetensors    `embeddings`, float32 (P, views, dim); as metadata, the key and the sha256

An edit of the head changes no embedding. Each track has one file, which the next run with another key replaces. So the
cache does not grow. The files may be deleted at any time.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from headstart.artifacts.bundle import Bundle
from headstart.base.files import canonical_json, code_digests, sha256_json, write_bytes
from headstart.base.machine import cache_folder
from stages.robustness.sample import DrawnImage

_PACKAGES = ("numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")
_CODE = ("headstart/backbone", "headstart/engines", "headstart/imaging", "headstart/predict", "stages/robustness")
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
        self._key = sha256_json({
            "track": bundle.track,
            "spec": dict(bundle.spec),
            "layers": list(bundle.layers),
            "network": model_sha256 if bundle.backbone else None,
            "pictures": pictures,
            "device": device,
            "versions": {name: version(name) for name in _PACKAGES},
            "code": code_digests(*_CODE),
        })  # fmt: skip

    def load(self) -> NDArray[np.float32] | None:
        """Return the embeddings (P, views, dim). None: there are none of this key, or the file is damaged."""
        try:
            with safe_open(self.path, framework="numpy") as file:
                made = json.loads(file.metadata()["made"])
                if made["key"] != self._key:
                    return None
                embeddings: NDArray[np.float32] = file.get_tensor(_NAME)
            if _sha256(embeddings) == made["sha256"]:
                return embeddings
            problem = "its content does not have its sha256"
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            problem = repr(error)
        print(f"robustness: WARNING: {self.path} is damaged ({problem}); it is made anew", flush=True)
        return None

    def save(self, embeddings: NDArray[np.float32]) -> None:
        """Replace the file, whole or not at all. Where it cannot be written, say so: the next run takes longer.

        Args:
            embeddings: Embeddings (P, views, dim).
        """
        # With more than one key of metadata, the bytes of the file are not deterministic (huggingface/safetensors#584).
        made = canonical_json({"key": self._key, "sha256": _sha256(embeddings)})
        try:
            write_bytes(self.path, save({_NAME: embeddings}, metadata={"made": made}))
        except OSError as error:
            print(f"robustness: WARNING: {self.path}: cannot be written ({error}); the next run takes longer")


def _sha256(embeddings: NDArray[np.float32]) -> str:
    return hashlib.sha256(save({_NAME: embeddings})).hexdigest()
