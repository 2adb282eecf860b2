"""The canary: stored embeddings are only reused while this machine still gives the same ones, within a tolerance.

The spec's fingerprint covers what we know to matter. A library, a decoder, a weights file or our own code may change
behind it; then the pictures kept here, of every format and kind that we decode, or a sample of the rows to be reused,
come out differently. A change that shows in neither (a decoder's quirk with one odd file, say) is not noticed.
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
from headstart.engines.tolerance import TOLERANCES, relative_difference
from headstart.imaging.decode import ImageError

NAME = "canary.safetensors"
_PACKAGES = ("numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")
Embed = Callable[[Sequence[bytes]], dict[str, Rows]]


def check_canary(folders: Mapping[str, Path], embed: Embed, precision: str) -> dict[str, str]:
    """Embed the kept pictures again and compare; in a new folder, make and keep them.

    Args:
        folders: Of each layer's store.
        embed: Files' bytes to (N, views, dim) for each layer, by the code and libraries of this run.
        precision: Of the spec.

    Returns:
        For each layer the canary's sha256, which every shard made under it carries.

    Raises:
        StoreError: A canary is damaged, or its pictures come out differently; says which packages changed and the two
            ways out.
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
    """Refuse the stored rows if two sets of embeddings of the same pictures are not the same within the tolerance.

    Args:
        path: The canary of the store that `kept` comes from.
        what: Which pictures, for the message.
        kept: (N, views, dim).
        now: Likewise, by this run.
        precision: Of the spec.

    Raises:
        StoreError: They differ.
    """
    difference = relative_difference(kept, now)
    if not difference <= TOLERANCES[precision]:  # also when it is no number
        _, then = _load(path)
        changed = [f"{name} {then[name]} -> {version(name)}" for name in then if then[name] != version(name)]
        raise StoreError(
            f"{path.parent}: {what} give other embeddings than when they were stored: they differ by {difference:.2g} "
            f"of their size, expected at most {TOLERANCES[precision]:g}. Packages changed since: "
            f"{', '.join(changed) or 'none'} (code, decoder and weights may have). "
            f"Either embed all anew (rm -r {path.parent}), or go back to what made them."
        )


def is_whole(path: Path) -> bool:
    """Whether a canary is as it was written."""
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
    """Small files that take every branch of `images.decode` and every format of `formats.FORMATS`."""
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
