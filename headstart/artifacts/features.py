"""Features: the HDF5 file of embeddings. Equal content gives equal bytes, and every file is checked when it is opened.

Layout, schema `headstart.features/3`:

    /digest         (N,)             S64        sha256 of each image file in hex digits, ascending, unique
    /layers/<name>  (N, views, dim)  float32    embeddings of one layer (float16 if the spec's precision says so)
    /checksums/<name>  (N,)          uint32     checksum of each of its rows (uint16 for float16; `row_checksums`)
    attributes      fingerprint, schema, spec   the spec, as JSON, is all that the rows depend on besides the images

The file holds no labels, paths, versions or dates, so a new label or name of an image does not change it.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.feature_rows import REPAIR, FeatureWriter, file_bytes, reading, row_checksums
from headstart.base.errors import FeatureFileError
from headstart.base.files import atomic_path, canonical_json, check_regular, check_space, sha256_json, temporary_prefix

SCHEMA = "headstart.features/3"
REMEDY = "Run: dvc repro extract"
DIGEST_DTYPE = "S64"
Rows = NDArray[np.floating[Any]]  # float32 or float16


def fingerprint(spec: Mapping[str, Any]) -> str:
    """Return the key of the rows of a spec: the sha256 of its canonical JSON, in 64 hex digits."""
    return sha256_json(spec)


def check_finite(digests: Sequence[str], layer: str, rows: Rows) -> None:
    """Raise if an embedding is not finite.

    Args:
        digests: (B,) digests of the images.
        layer: Name of the layer, for the message.
        rows: (B, views, dim).

    Raises:
        FeatureFileError: A value is not finite, because it exceeds the range of the precision or the weights are
            damaged. The message names the first such image.
    """
    finite = np.isfinite(rows).all(axis=(1, 2))
    if not finite.all():
        raise FeatureFileError(
            f"layer {layer!r}: the embedding of image {digests[int(np.argmin(finite))]} (data/index.csv has its path) "
            f"is not finite in {rows.dtype}; expected finite numbers. Check the weights, or set extract.precision to "
            "float32."
        )


def columns_of(dims: Mapping[str, int]) -> dict[str, slice]:
    """Return the columns of each layer, by name, where the embeddings of the layers lie side by side.

    Args:
        dims: Number of values of an embedding of each layer, by name.
    """
    ends = accumulate(dims.values(), initial=0)
    return {layer: slice(start, end) for layer, (start, end) in zip(dims, pairwise(ends), strict=True)}


@contextmanager
def create_features(
    path: Path, digests: Sequence[str], spec: Mapping[str, Any], dims: Mapping[str, int]
) -> Iterator[FeatureWriter]:
    """Create a features file. It appears at `path` only when all rows are written and it can be opened.

    Memory does not grow with N: rows are written as they come.

    Args:
        path: Path of the file.
        digests: (N,) sha256 of the images, ascending and unique.
        spec: The spec, as JSON values.
        dims: Width of each layer of the spec.

    Raises:
        FeatureFileError: The digests are not ascending or not unique, or the block ended before every row was written.
        OSError: The file does not fit on the disk.
    """
    packed = np.array(digests, dtype=DIGEST_DTYPE)
    if not (packed[1:] > packed[:-1]).all():
        raise FeatureFileError(f"{path}: the digests are not ascending or not unique; expected each once, in order")
    for leftover in path.parent.glob(f"{temporary_prefix(path)}*"):
        _remove_leftover(leftover)
    dtype, num_views = np.dtype(spec["precision"]), len(spec["views"])
    with atomic_path(path) as temporary:
        check_space(temporary, file_bytes(packed, dims, num_views, dtype))  # HDF5 would crash at its end
        # Contiguous datasets, a fixed order and the default libver make equal content equal bytes.
        with h5py.File(temporary, "w") as file:
            file.create_dataset("digest", data=packed)
            group = file.create_group("layers")
            datasets = {
                name: group.create_dataset(name, shape=(len(packed), num_views, dims[name]), dtype=dtype)
                for name in spec["layers"]
            }
            group, dtype = file.create_group("checksums"), np.dtype(f"u{dtype.itemsize}")
            checksums = {name: group.create_dataset(name, shape=len(packed), dtype=dtype) for name in spec["layers"]}
            for name, value in (("fingerprint", fingerprint(spec)), ("schema", SCHEMA), ("spec", canonical_json(spec))):
                file.attrs[name] = value
            writer = FeatureWriter(datasets, checksums)
            yield writer
            writer.check_complete(path, len(packed))
        with open_features(temporary, spec):
            pass


def _remove_leftover(path: Path) -> None:
    """Remove a file that a killed run left, unless it is that of a run that still writes: HDF5 locks what it writes."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


class Features:
    """An open features file. `open_features` gives one.

    Attributes:
        path: Path of the file.
        spec: Spec of the rows.
        digests: sha256 of the images in hex digits, (N,) S64, ascending.
    """

    def __init__(self, path: Path, file: h5py.File, spec: dict[str, Any]) -> None:
        self.path, self.spec = path, spec
        self.digests: NDArray[np.bytes_] = file["digest"][:]
        self._layers: dict[str, h5py.Dataset] = dict(file["layers"].items())
        self._checksums: dict[str, NDArray[np.unsignedinteger[Any]]] = {
            layer: of[:] for layer, of in file["checksums"].items()
        }

    def read(self, layer: str, digests: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of some images, float32 (B, views, dim).

        Args:
            layer: Name of the layer.
            digests: (B,) sha256 of the images, in any order.

        Raises:
            FeatureFileError: The file lacks the layer, an image has no row, or a row is damaged.
        """
        dataset, rows = self._dataset(layer), self.rows(digests)
        ascending, position = np.unique(rows, return_inverse=True)  # HDF5 selects rows only in ascending order
        selected = self._checked(layer, self._take(dataset, ascending), ascending)
        return selected.astype(np.float32, copy=False)[position]

    def dim(self, layer: str) -> int:
        """Return the width of a layer: the number of values of an embedding.

        Raises:
            FeatureFileError: The file lacks the layer.
        """
        return int(self._dataset(layer).shape[2])

    def pieces(
        self, layers: Sequence[str], rows: NDArray[np.intp], num_bytes: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Give the embeddings of many images, one piece of the file at a time, in constant memory.

        Args:
            layers: Names of layers. Their embeddings are put side by side.
            rows: (N,) row numbers in the file, ascending (see `rows`).
            num_bytes: Largest size of a piece as float32, in bytes. A piece has at least one row.

        Yields:
            The positions (B,) in `rows` of the images of a piece, and their embeddings, float32 (B, views, dim), where
            dim is the sum over the layers.

        Raises:
            FeatureFileError: The file lacks a layer, or a row is damaged.
        """
        datasets = {layer: self._dataset(layer) for layer in layers}
        step = max(1, num_bytes // (4 * sum(one.shape[1] * one.shape[2] for one in datasets.values())))
        for start in range(0, len(self.digests), step):
            first, last = np.searchsorted(rows, [start, start + step])
            if first < last:
                wanted = rows[first:last]
                piece = [
                    self._checked(layer, self._take(dataset, slice(start, start + step))[wanted - start], wanted)
                    for layer, dataset in datasets.items()
                ]
                joined = piece[0] if len(piece) == 1 else np.concatenate(piece, axis=2)
                yield np.arange(first, last), joined.astype(np.float32, copy=False)

    def rows(self, digests: Sequence[str]) -> NDArray[np.intp]:
        """Return the row numbers of some images, (B,).

        Args:
            digests: (B,) sha256 of the images, in any order.

        Raises:
            FeatureFileError: An image has no row.
        """
        wanted = np.array(digests, dtype=DIGEST_DTYPE)
        rows = np.searchsorted(self.digests, wanted)
        found = rows < len(self.digests)
        found[found] = self.digests[rows[found]] == wanted[found]
        if not found.all():
            raise FeatureFileError(
                f"{self.path}: no row for {(~found).sum()} of {len(digests)} images, the first "
                f"{digests[int(np.argmin(found))]}. {REPAIR}"
            )
        return rows

    def blocks(self, layer: str, num_bytes: int) -> Iterator[Rows]:
        """Give all rows of a layer in order, in blocks (B, views, dim) in the precision of the file.

        Args:
            layer: Name of the layer, which the file must have.
            num_bytes: Largest size of a block, in bytes. A block has at least one row.

        Raises:
            FeatureFileError: A row is damaged.
        """
        dataset = self._layers[layer]
        _, num_views, dim = dataset.shape
        step = max(1, num_bytes // (num_views * dim * dataset.dtype.itemsize))
        for start in range(0, len(dataset), step):
            block = self._take(dataset, slice(start, start + step))
            yield self._checked(layer, block, np.arange(start, start + len(block)))

    def _checked(self, layer: str, rows: Rows, numbers: NDArray[np.intp]) -> Rows:
        """Return rows (B, views, dim) with given numbers (B,), ascending, after comparing them with their checksums."""
        same = row_checksums(rows) == self._checksums[layer][numbers]
        if not same.all():
            digest = self.digests[numbers[int(np.argmin(same))]].decode()
            raise FeatureFileError(
                f"{self.path}: layer {layer!r}: {(~same).sum()} rows are damaged (their checksums differ), the first "
                f"of image {digest}. {REPAIR}"
            )
        return rows

    def _take(self, dataset: h5py.Dataset, selection: object) -> Rows:
        with reading(self.path):
            return dataset[selection]

    def _dataset(self, layer: str) -> h5py.Dataset:
        if layer not in self._layers:
            raise FeatureFileError(f"{self.path}: no layer {layer!r}; it has {sorted(self._layers)}. {REMEDY}")
        return self._layers[layer]


@contextmanager
def open_features(path: Path, expected: Mapping[str, Any] | None = None) -> Iterator[Features]:
    """Open a features file for reading and check that it is whole.

    Args:
        path: Path of the file.
        expected: Spec that the file must have; None if any spec will do.

    Raises:
        FeatureFileError: The file is missing, damaged, of another schema, or has another spec than `expected`. The
            message names the first key that differs, with both values.
    """
    if not path.exists():
        raise FeatureFileError(f"{path}: is missing. {REMEDY}")
    with reading(path):
        check_regular(path)
        file = h5py.File(path, "r")
    with file:
        with reading(path):
            schema = file.attrs.get("schema")
        if schema != SCHEMA:
            what = f"schema is {schema!r}, expected {SCHEMA!r}: another version wrote this file"
            raise FeatureFileError(f"{path}: {what}. {REPAIR}")
        with reading(path):
            spec = json.loads(file.attrs["spec"])
            shapes = {name: dataset.shape for name, dataset in file["layers"].items()}
            digest = file["digest"]
            whole = (
                file.attrs["fingerprint"] == fingerprint(spec)
                and sorted(shapes) == sorted(spec["layers"])
                and digest.dtype == np.dtype(DIGEST_DTYPE)
                and all(len(shape) == 3 and shape[0] == len(digest) for shape in shapes.values())
                and all(dataset.dtype == np.dtype(spec["precision"]) for dataset in file["layers"].values())
                and {name: of.shape for name, of in file["checksums"].items()}
                == {name: shape[:1] for name, shape in shapes.items()}
            )
            if not whole:
                raise ValueError("attributes and datasets do not agree")
            features = Features(path, file, spec)
        for key, found, wanted in _differences(spec, spec if expected is None else expected):
            raise FeatureFileError(f"{path}: {key} is {found!r}; this run expects {wanted!r}. {REMEDY}")
        yield features


def _differences(found: object, expected: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    if isinstance(found, dict) and isinstance(expected, Mapping):
        for key in sorted({*found, *expected}):
            yield from _differences(found.get(key), expected.get(key), f"{path}.{key}" if path else key)
    elif found != expected:
        yield path, found, expected
