"""The canary: stored embeddings are only reused while this machine still gives the same ones.

The recipe's fingerprint covers what we know to matter. A library, a decoder, a weights file or our own code may change
behind it; then the pictures kept here, and a sample of the rows to be reused, come out differently.
"""

import io
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save

from stages.core.errors import StoreError
from stages.core.files import write_bytes

NAME = "canary.safetensors"
# Largest difference between two sets of embeddings of the same pictures, in units of their root mean square. Measured
# with EfficientNet-Lite0 and SqueezeNet 1.1 on a CPU: other batches and threads 0; one layer's weights 0.1 % larger
# 0.006 to 0.014; the mean off by one gray level 0.06 to 0.13; another resize filter 0.5 and more.
TOLERANCE = 1e-3
_PACKAGES = ("numpy", "pillow", "timm", "torch", "torchvision")


def check_canary(folder: Path, embed: Callable[[Sequence[bytes]], NDArray[np.float32]]) -> None:
    """Embed the kept pictures again and compare; in a new folder, make and keep them.

    Args:
        folder: Of one recipe's store.
        embed: Files' bytes to float32 (N, views, dim), by the code and libraries of this run.

    Raises:
        StoreError: The pictures come out differently; says which packages changed and the two ways out.
    """
    path = folder / NAME
    if not path.exists():
        pictures = _make_pictures()
        tensors = {f"picture_{number}": np.frombuffer(data, dtype=np.uint8) for number, data in enumerate(pictures)}
        metadata = {"versions": json.dumps({name: version(name) for name in _PACKAGES})}
        write_bytes(path, save({**tensors, "embeddings": embed(pictures)}, metadata=metadata))
        return
    tensors = load_file(path)
    kept = tensors.pop("embeddings").astype(np.float32, copy=False)
    pictures = [tensors[name].tobytes() for name in sorted(tensors)]
    compare(path, "the canary's pictures", kept, embed(pictures))


def compare(path: Path, what: str, kept: NDArray[np.float32], now: NDArray[np.float32]) -> None:
    """Refuse the stored rows if two sets of embeddings of the same pictures are not the same within `TOLERANCE`.

    Args:
        path: The canary of the store that `kept` comes from.
        what: Which pictures, for the message.
        kept: Float32 (N, views, dim).
        now: Likewise, by this run.

    Raises:
        StoreError: They differ.
    """
    size = float(np.sqrt(np.mean(kept.astype(np.float64) ** 2)))
    difference = float(np.abs(kept.astype(np.float64) - now).max()) / (size or 1.0)
    if difference > TOLERANCE:
        with safe_open(path, framework="numpy") as file:
            then = json.loads(file.metadata()["versions"])
        changed = [f"{name} {then[name]} -> {version(name)}" for name in then if then[name] != version(name)]
        raise StoreError(
            f"{path.parent}: {what} give other embeddings than when they were stored: they differ by {difference:.2g} "
            f"of their size, expected at most {TOLERANCE:g}. Packages changed since: {', '.join(changed) or 'none'} "
            "(code, decoder and weights may have). "
            f"Either embed all anew (rm -r {path.parent}), or go back to what made them."
        )


def _make_pictures() -> list[bytes]:
    """Small files that take every way through decoding: PNG, JPEG, gray, alpha, turned by EXIF, wide and tall."""
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for mode, size, kind, options in (
        ("RGB", (96, 64), "PNG", {}),
        ("RGB", (120, 160), "JPEG", {"quality": 90, "exif": exif}),
        ("L", (40, 50), "PNG", {}),
        ("RGBA", (64, 64), "PNG", {}),
    ):
        coarse = random.integers(0, 256, size=(6, 8, 4), dtype=np.uint8)
        image = Image.fromarray(coarse).convert(mode).resize(size, Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())
    return files
