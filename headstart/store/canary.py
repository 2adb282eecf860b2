"""The canary: stored embeddings are reused only while this machine gives the same embeddings, within a tolerance.

The fingerprint of the spec covers what is known to matter. A library, a decoder, a weights file or our own code may
still change. Then the embeddings of the pictures kept here (of every format and kind that is decoded), or of a sample
of the stored rows, differ. A change that shows in neither, such as a decoder's quirk with one odd file, is not noticed.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from headstart.artifacts.features import Rows, check_finite
from headstart.base.errors import StoreError
from headstart.base.files import canonical_json, sha256_file, write_new_bytes
from headstart.engines.engine import TOLERANCES, relative_difference
from headstart.imaging.decode import ImageError

NAME = "canary.safetensors"
_PACKAGES = ("numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")
Embed = Callable[[Sequence[bytes]], dict[str, Rows]]


def check_canary(folders: Mapping[str, Path], embed: Embed, precision: str) -> dict[str, str]:
    """Embed the kept pictures again and compare. In a new folder, make the pictures first.

    Args:
        folders: Folder of the store of each layer.
        embed: Turns image files, given as bytes, into embeddings (N, views, dim) for each layer, in this run.
        precision: Precision of the spec.

    Returns:
        The sha256 of the canary of each layer. Every shard made under it carries it.

    Raises:
        StoreError: A canary is damaged, or the embeddings differ. The message says which packages changed, and what to
            do.
        FeatureFileError: An embedding is not finite.
    """
    embedded: dict[tuple[bytes, ...], dict[str, Rows]] = {}

    def embed_once(pictures: Sequence[bytes]) -> dict[str, Rows]:
        key = tuple(pictures)
        if key not in embedded:
            embedded[key] = embed(pictures)
        return embedded[key]

    for layer, folder in folders.items():
        path = folder / NAME
        if not path.exists():
            _make_canary(path, layer, embed_once)
        try:
            tensors, _ = _load(path)
            kept = tensors.pop("embedding")
            now = embed_once([tensors[name].tobytes() for name in sorted(tensors)])[layer]
        except (SafetensorError, ImageError, KeyError, ValueError, TypeError) as error:
            raise StoreError(f"{path}: is damaged ({error}). Delete it; its rows are then embedded anew.") from error
        compare(path, "the canary's pictures", kept, now, precision)
    return {layer: sha256_file(folder / NAME) for layer, folder in folders.items()}


def compare(path: Path, what: str, kept: Rows, now: Rows, precision: str) -> None:
    """Raise if two sets of embeddings of the same pictures differ by more than the tolerance.

    Args:
        path: The canary of the store that `kept` comes from.
        what: Name of the pictures, for the message.
        kept: Stored embeddings (N, views, dim).
        now: Embeddings by this run, of the same shape.
        precision: Precision of the spec.

    Raises:
        StoreError: They differ.
    """
    difference = relative_difference(kept, now)
    if not difference <= TOLERANCES[precision]:  # also if it is not a number
        _, then = _load(path)
        changed = [f"{name} {then[name]} -> {version(name)}" for name in then if then[name] != version(name)]
        raise StoreError(
            f"{path.parent}: {what} give other embeddings than when they were stored: they differ by {difference:.2g} "
            f"of their size, expected at most {TOLERANCES[precision]:g}. Packages changed since: "
            f"{', '.join(changed) or 'none'} (code, decoder and weights may have). "
            f"Either embed all anew (rm -r {path.parent}), or go back to what made them."
        )


def is_whole(path: Path) -> bool:
    """Return whether a canary file is undamaged."""
    try:
        _load(path)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return False
    return True


def _make_canary(path: Path, layer: str, embed: Embed) -> None:
    pictures = _make_pictures()
    rows = embed(pictures)[layer]
    check_finite([f"picture {number} of the canary" for number in range(len(pictures))], layer, rows)
    tensors: dict[str, NDArray[Any]] = {
        f"picture_{number:02}": np.frombuffer(data, dtype=np.uint8) for number, data in enumerate(pictures)
    }
    tensors["embedding"] = rows
    made = {"versions": {name: version(name) for name in _PACKAGES}, "sha256": _sha256(tensors)}
    try:
        write_new_bytes(path, save(tensors, metadata={"made": canonical_json(made)}))
    except OSError as error:
        raise StoreError(
            f"{path.parent}: cannot be written to ({error.strerror}). Name another folder in runtime.store or "
            "HEADSTART_STORE."
        ) from error


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return a canary's tensors and the versions of the packages that made it."""
    with safe_open(path, framework="numpy") as file:
        made = json.loads(file.metadata()["made"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable itself
    if _sha256(tensors) != made["sha256"]:
        raise ValueError("its sha256 is another")
    return tensors, made["versions"]


def _sha256(tensors: dict[str, NDArray[Any]]) -> str:
    return hashlib.sha256(save(tensors)).hexdigest()


def _make_pictures() -> list[bytes]:
    """Return small files that take every branch of `images.decode` and every format of `formats.FORMATS`."""
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("RGB", "PNG", {}),
        ("RGB", "JPEG", {"quality": 90, "exif": exif}),
        ("CMYK", "JPEG", {"quality": 90}),
        ("L", "PNG", {}),
        ("I;16", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("P", "PNG", {}),
        ("P", "PNG", {"transparency": 3}),
        ("P", "GIF", {}),
        ("RGB", "BMP", {}),
        ("RGB", "TIFF", {}),
        ("RGB", "WEBP", {"quality": 90}),
    ]
    files = []
    for number, (mode, kind, options) in enumerate(kinds):
        coarse = random.integers(0, 256, size=(6, 8, 4), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((64 + 8 * number, 96), Image.Resampling.BICUBIC)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        elif mode != "RGBA":
            image = image.convert("RGB").convert(mode)
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())
    return files
