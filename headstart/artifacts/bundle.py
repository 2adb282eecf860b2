"""Bundles: a bundle is a folder with everything needed to predict, without pickle.

    config.json             schema, track, classes in the order of the logits, spec of the embeddings, layers,
                            calibration, what the model was trained on, sha256 of the other two files
    model.safetensors       head.weight (C, dim) and head.bias (C,), float32; of a fine-tuned network also its tensors,
                            backbone.<name>; as metadata, the sha256 of config.json without the sha256 of this file
    references.safetensors  training images to compare new images with (`artifacts.references`)

Each file is covered by a digest in another one, so that an edit by hand is noticed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from headstart.artifacts.references import References, from_tensors, to_tensors
from headstart.base.errors import BundleError
from headstart.base.files import read_bytes, sha256_file, sha256_json, write_bytes, write_json
from headstart.base.tensor_files import TensorFileError, read_tensors
from headstart.tables.names import TRACKS

SCHEMA = "headstart.bundle/4"
CONFIG_NAME = "config.json"
TENSORS_NAME = "model.safetensors"
REFERENCES_NAME = "references.safetensors"
_BACKBONE = "backbone."
_CONFIG_KEYS = {
    "track": str,
    "classes": list,
    "spec": dict,
    "layers": list,
    "dims": list,
    "calibration": dict,
    "trained_on": dict,
    "model_sha256": str,
    "references_sha256": str,
}


@dataclass(frozen=True)
class Bundle:
    """A trained classifier of embeddings.

    Attributes:
        track: `head` or `finetune`.
        classes: (C,) in the order of the logits.
        spec: Spec of the embeddings: backbone, sha256 of its weights, transform, views, decode policy and so on.
        layers: The layers of the spec that the head reads, by depth. Their embeddings lie side by side.
        dims: Number of values of each of these embeddings. Their sum is dim.
        temperature: The logits are divided by this number, which is above 0.
        trained_on: What the model was trained on: numbers, and the sha256 of files.
        weight: Weights of the head, float32 (C, dim). A standardisation of the embeddings is part of them.
        bias: Bias of the head, float32 (C,).
        references: Training images, with their embeddings of these layers.
        backbone: Parameters and buffers of the backbone by name; empty if they are the weights that the spec names.
    """

    track: str
    classes: Sequence[str]
    spec: Mapping[str, Any]
    layers: Sequence[str]
    dims: Sequence[int]
    temperature: float
    trained_on: Mapping[str, str | int]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    references: References
    backbone: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return calibrated logits, float64 (N, C), of embeddings (N, views, dim). They are means over the views."""
        mean_ND = embeddings.mean(axis=1, dtype=np.float64)
        return (mean_ND @ self.weight.T.astype(np.float64) + self.bias) / self.temperature


def remedy(folder: Path) -> str:
    """Return what to do about a bad bundle. If it stayed there, DVC might not notice: it trusts the times of files."""
    return f"Delete {folder} and run: dvc repro (or copy the bundle again)"


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle into a folder. Equal bundles give equal bytes.

    Raises:
        OSError: A file cannot be written.
    """
    config = {
        "schema": SCHEMA,
        "track": bundle.track,
        "classes": list(bundle.classes),
        "spec": dict(bundle.spec),
        "layers": list(bundle.layers),
        "dims": list(bundle.dims),
        "calibration": {"temperature": bundle.temperature},
        "trained_on": dict(bundle.trained_on),
    }
    references = to_tensors(bundle.references)
    write_bytes(folder / REFERENCES_NAME, save({name: np.ascontiguousarray(rows) for name, rows in references.items()}))
    config["references_sha256"] = sha256_file(folder / REFERENCES_NAME)
    tensors = {"head.weight": np.ascontiguousarray(bundle.weight), "head.bias": np.ascontiguousarray(bundle.bias)}
    tensors |= {f"{_BACKBONE}{name}": values.copy(order="C") for name, values in bundle.backbone.items()}
    # With more than one key of metadata, the bytes of the file are not deterministic (huggingface/safetensors#584).
    write_bytes(folder / TENSORS_NAME, save(tensors, metadata={"config_sha256": sha256_json(config)}))
    write_json(folder / CONFIG_NAME, config | {"model_sha256": sha256_file(folder / TENSORS_NAME)})


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check only the `config.json` of a bundle.

    Raises:
        BundleError: The file is missing, damaged, or of another schema.
    """
    path = folder / CONFIG_NAME
    try:
        config = json.loads(read_bytes(path))
    except FileNotFoundError as error:
        raise BundleError(f"{path}: is missing. A bundle is a folder such as models/head") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}). {remedy(folder)}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: is damaged ({error}). {remedy(folder)}") from error
    schema = config.get("schema") if isinstance(config, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"{path}: schema is {schema!r}, expected {SCHEMA!r}: another version wrote it. Run: dvc repro"
        )
    missing = [name for name, kind in _CONFIG_KEYS.items() if not isinstance(config.get(name), kind)]
    if missing:
        raise BundleError(f"{path}: {', '.join(missing)}: missing or damaged. {remedy(folder)}")
    return config


def read_bundle(folder: Path) -> Bundle:
    """Read and check a bundle that `write_bundle` wrote.

    Raises:
        BundleError: A file is missing or damaged, the files were not written together, or their contents contradict
            each other.
    """
    config = read_config(folder)
    try:
        digests = {TENSORS_NAME: config.pop("model_sha256"), REFERENCES_NAME: config["references_sha256"]}
        for name, wanted in digests.items():
            found = sha256_file(folder / name)
            if found != wanted:
                raise BundleError(f"{folder / name}: sha256 is {found}; {CONFIG_NAME} says {wanted}. {remedy(folder)}")
        tensors, metadata = read_tensors(folder / TENSORS_NAME)
        if metadata["config_sha256"] != sha256_json(config):
            raise BundleError(f"{folder / CONFIG_NAME}: was changed after {TENSORS_NAME} was written. {remedy(folder)}")
        bundle = Bundle(
            track=config["track"],
            classes=config["classes"],
            spec=config["spec"],
            layers=config["layers"],
            dims=config["dims"],
            temperature=config["calibration"]["temperature"],
            trained_on=config["trained_on"],
            weight=tensors["head.weight"],
            bias=tensors["head.bias"],
            references=from_tensors(read_tensors(folder / REFERENCES_NAME)[0]),
            backbone={
                name.removeprefix(_BACKBONE): values for name, values in tensors.items() if name.startswith(_BACKBONE)
            },
        )
    except FileNotFoundError as error:
        raise BundleError(f"{error.filename}: is missing. A bundle is a folder such as models/head") from error
    except OSError as error:
        raise BundleError(f"{error.filename}: cannot be read ({error.strerror}). {remedy(folder)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, TensorFileError) as error:
        raise BundleError(f"{folder}: is damaged ({error!r}). {remedy(folder)}") from error
    problem = _problem(bundle)
    if problem:
        raise BundleError(f"{folder}: {problem}. {remedy(folder)}")
    return bundle


def _problem(bundle: Bundle) -> str:
    """Return what is wrong with a bundle whose digests agree, because somebody may have changed them too."""
    if bundle.track not in TRACKS:
        return f"track is {bundle.track!r}; expected one of {TRACKS}"
    num_classes = len(bundle.classes)
    are_names = all(isinstance(name, str) for name in bundle.classes)
    if not are_names or num_classes < 2 or len(set(bundle.classes)) < num_classes:
        return f"classes are {bundle.classes}; expected at least 2 different names"
    shapes = bundle.weight.shape, bundle.bias.shape
    if len(shapes[0]) != 2 or shapes[0][0] != num_classes or shapes[1] != (num_classes,):
        return f"head.weight and head.bias have shapes {shapes}; expected ({num_classes}, dim) and ({num_classes},)"
    strange = [layer for layer in bundle.layers if layer not in bundle.spec.get("layers", [])]
    if strange or not bundle.layers:
        return f"layers are {bundle.layers}; expected some of {bundle.spec.get('layers')}"
    if len(bundle.dims) != len(bundle.layers) or sum(bundle.dims) != shapes[0][1]:
        return f"dims are {bundle.dims}; expected one for each of {bundle.layers}, {shapes[0][1]} together"
    if list(bundle.references.dims) != list(bundle.dims):
        return f"references have dims {bundle.references.dims}; expected {bundle.dims}"
    if bundle.references.embeddings.shape[1:] != shapes[0][1:]:
        return f"references have shape {bundle.references.embeddings.shape}; expected (M, {shapes[0][1]})"
    numbers: dict[str, NDArray[Any]] = {
        "head.weight": bundle.weight,
        "head.bias": bundle.bias,
        "held_out": bundle.references.held_out,
    }
    odd = [name for name, values in numbers.items() if values.dtype != np.float32]
    if odd:
        return f"{odd[0]} is {numbers[odd[0]].dtype}; expected float32"
    if bundle.references.embeddings.dtype != np.float16:
        return f"references are {bundle.references.embeddings.dtype}; expected float16"
    numbers |= {"references": bundle.references.embeddings, **bundle.backbone}
    odd = [name for name, values in numbers.items() if not np.isfinite(values).all()]
    if odd:
        return f"{odd[0]} has numbers that are not finite"
    if not len(bundle.references.embeddings) or not len(bundle.references.held_out):
        return "there are no references; expected training images and the scores of held-out images"
    if not isinstance(bundle.temperature, float) or not 0 < bundle.temperature < np.inf:
        return f"calibration.temperature is {bundle.temperature!r}; expected a number above 0"
    return ""
