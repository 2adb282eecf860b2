"""The canary: stored embeddings are reused only while this machine gives the same embeddings, within a tolerance.

The fingerprint of the spec covers the settings that embeddings depend on. A library, a decoder, a weights file or our
own code may still change. So each store keeps pictures of every format and kind that is decoded, with their embeddings.
Each run embeds these pictures again, and also a sample of the images that it wants to reuse, and compares. A change
that shows in neither, such as a decoder that treats one odd file differently, is not noticed.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save

from headstart.artifacts.features import Rows, check_finite
from headstart.base.errors import StoreError
from headstart.base.files import canonical_json, sha256_file, write_new_bytes
from headstart.base.packages import versions
from headstart.base.tensor_files import TensorFileError, read_tensors
from headstart.engines.engine import TOLERANCES, relative_difference
from headstart.imaging.decode import ImageError

NAME = "canary.safetensors"
_LARGE_SIZE = (1400, 1050)
_PACKAGES = ("numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")
Embed = Callable[[Sequence[bytes]], dict[str, Rows]]


def check_canary(folders: Mapping[str, Path], embed: Embed, precision: str) -> dict[str, str]:
    """Embed the pictures of each canary again and compare. A folder without a canary gets one first.

    Args:
        folders: Folder of each layer's store.
        embed: Function of this run that turns the bytes of image files into embeddings (N, views, dim) of each layer.
        precision: Precision of the spec, `float32` or `float16`.

    Returns:
        The sha256 of each layer's canary. Every shard contains the sha256 of the canary that it was made under.

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
        except (OSError, TensorFileError, ImageError, KeyError, ValueError, TypeError) as error:
            raise StoreError(f"{path}: is damaged ({error}). Delete it; its rows are then embedded again.") from error
        compare(path, "the canary's pictures", kept, now, precision)
    return {layer: sha256_file(folder / NAME) for layer, folder in folders.items()}


def compare(path: Path, what: str, kept: Rows, now: Rows, precision: str) -> None:
    """Raise if two sets of embeddings of the same pictures differ by more than the tolerance.

    Args:
        path: Path of the canary in the store that `kept` comes from.
        what: Name of the pictures, in the plural, for the message.
        kept: Stored embeddings (N, views, dim).
        now: Embeddings of the same pictures in this run, of the same shape.
        precision: Precision of the spec, `float32` or `float16`.

    Raises:
        StoreError: The embeddings differ by more than the tolerance, or one is not a number.
    """
    difference = relative_difference(kept, now)
    if not difference <= TOLERANCES[precision]:  # also if it is not a number
        _, then = _load(path)
        present = versions(then)
        changed = [f"{name} {then[name]} -> {present[name]}" for name in then if then[name] != present[name]]
        raise StoreError(
            f"{path.parent}: {what} give other embeddings than when they were stored: they differ by {difference:.2g} "
            f"of their size; expected at most {TOLERANCES[precision]:g}. Packages changed since: "
            f"{', '.join(changed) or 'none'} (code, decoder or weights may have changed too). "
            f"Either embed all images again (rm -r {path.parent}), or go back to the old packages, code and weights."
        )


def is_whole(path: Path) -> bool:
    """Return whether a canary file exists and is undamaged."""
    try:
        _load(path)
    except (OSError, TensorFileError):
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
    made = {"versions": versions(_PACKAGES), "sha256": _sha256(tensors)}
    try:
        write_new_bytes(path, save(tensors, metadata={"made": canonical_json(made)}))
    except OSError as error:
        raise StoreError(
            f"{path.parent}: cannot be written to ({error.strerror}). Set another folder in runtime.store or "
            "HEADSTART_STORE."
        ) from error


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return a canary's tensors and the versions of the packages that made it.

    Raises:
        TensorFileError: The file is damaged.
        OSError: It cannot be read.
    """
    tensors, metadata = read_tensors(path)
    try:
        made = json.loads(metadata["made"])
        sha256, then = made["sha256"], made["versions"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise TensorFileError(f"its metadata is no JSON of a canary ({error})") from error
    if _sha256(tensors) != sha256:
        raise TensorFileError("its content does not have its sha256")
    return tensors, then


def _sha256(tensors: dict[str, NDArray[Any]]) -> str:
    return hashlib.sha256(save(tensors)).hexdigest()


def _make_pictures() -> list[bytes]:
    """Return small files of every format that Pillow reads and of every kind of pixel that `decode` treats.

    HEIC is left out: machines that share a store need not all have the package that reads it. Two pictures are large
    enough to be reduced where the network's input is of the usual size, one of them by the decoder of JPEG.
    """
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
        ("RGB", "AVIF", {"quality": 90}),
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
    for kind in ("JPEG", "PNG"):
        coarse = random.integers(0, 256, size=(51, 68, 3), dtype=np.uint8)
        file = io.BytesIO()
        large = Image.fromarray(coarse).resize(_LARGE_SIZE, Image.Resampling.NEAREST)
        large.save(file, kind, quality=40)  # small files
        files.append(file.getvalue())
    return files
