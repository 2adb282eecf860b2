"""References: training images to compare new images with, and held-out scores that decide when to say `unknown`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

# Largest number of references. Of more training images, a random sample is kept. 10,000 embeddings of 1,280 values are
# 25 MB.
MOST_REFERENCES = 10_000
# Largest number of held-out images. With this many, the standard error of a fraction of 0.95 is 0.0034.
MOST_HELD_OUT = 4_000
_BLOCK_ROWS = 512
_NUL = "\0"


@dataclass(frozen=True)
class References:
    """Training images with their embeddings of the layers that the head reads.

    The similarity of two images is the cosine similarity of their embeddings, averaged over the layers.

    Attributes:
        dims: Number of values of each layer's embedding, by depth. Their sum is dim.
        digests: (M,) sha256 of each file, ascending.
        paths: (M,) paths as in the index.
        labels: (M,) names of the classes.
        embeddings: float16 (M, dim), means over the views, of unit length as `unit_length` makes them.
        held_out: float32 (Q, 2). For each of Q training images, the calibrated confidence of a model that was not
            trained on it, and the cosine similarity to the nearest reference of the other folds.
    """

    dims: Sequence[int]
    digests: Sequence[str]
    paths: Sequence[str]
    labels: Sequence[str]
    embeddings: NDArray[np.float16]
    held_out: NDArray[np.float32]

    @classmethod
    def none(cls, dims: Sequence[int]) -> "References":
        """Return an empty set of references, for a bundle that is not finished."""
        return cls(dims, [], [], [], np.empty((0, sum(dims)), dtype=np.float16), np.empty((0, 2), dtype=np.float32))

    def nearest(self, embeddings: NDArray[np.floating[Any]], num: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return positions, int (N, num), and cosine similarities, float32 (N, num), of the nearest references first.

        Args:
            embeddings: (N, views, dim).
            num: Number of references for each image, at least 1 and at most all of them.
        """
        similarity = unit_length(embeddings.mean(axis=1, dtype=np.float32), self.dims) @ self._columns
        if num == 1:  # the common case: coverage needs only the nearest
            order = similarity.argmax(axis=1)[:, None]
        else:
            order = np.argsort(-similarity, axis=1, kind="stable")[:, :num]
        return order, np.take_along_axis(similarity, order, axis=1)

    @cached_property
    def _columns(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.embeddings.T.astype(np.float32))

    def thresholds(self, coverage: float) -> tuple[float, float]:
        """Return the smallest confidence and the smallest similarity at which an image gets a class, not `unknown`.

        Both are the same quantile of the held-out images: the highest at which the fraction `coverage` reaches both.

        Args:
            coverage: Fraction of images like the training images that get a class, above 0 and at most 1.
        """
        ascending = np.sort(self.held_out, axis=0)

        def num_answered(rank: int) -> int:
            return int((self.held_out >= ascending[rank]).all(axis=1).sum())

        least, low, high = coverage * len(ascending), 0, len(ascending) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if num_answered(middle) >= least else (low, middle - 1)
        return float(ascending[low, 0]), float(ascending[low, 1])


def make_references(
    digests: Sequence[str],
    paths: Sequence[str],
    labels: Sequence[str],
    embeddings: NDArray[np.float32],
    held_out: NDArray[np.float32],
    *,
    dims: Sequence[int],
) -> References:
    """Make references of the first M of N images. Digests are like random numbers, so these are a random sample.

    Args:
        digests: (N,) sha256 of the images, ascending.
        paths: (N,) paths as in the index.
        labels: (N,) names of the classes.
        embeddings: float32 (M, dim), means over the views, of the first M images.
        held_out: As in `References`.
        dims: As in `References`.
    """
    num = len(embeddings)
    unit = unit_length(embeddings, dims).astype(np.float16)
    return References(dims, digests[:num], paths[:num], labels[:num], unit, held_out)


def nearest_similarity(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    dims: Sequence[int],
    folds: tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]] | None = None,
) -> NDArray[np.float32]:
    """Return the cosine similarity of each query with the nearest reference, float32 (Q,).

    Args:
        queries: Embeddings (Q, dim), of any length.
        references: Embeddings (M, dim), of any length.
        dims: Number of values of each layer's embedding, by depth.
        folds: Number of the fold of each query (Q,) and of each reference (M,). References in the fold of a query are
            ignored. If none is left, the similarity is -1.
    """
    theirs, found = unit_length(references, dims), np.empty(len(queries), dtype=np.float32)
    with threadpool_limits(limits=1, user_api="blas"):  # so that the bits do not depend on the number of cores
        for start in range(0, len(queries), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            similarity = unit_length(queries[part], dims) @ theirs.T
            if folds is not None:
                similarity[folds[0][part, None] == folds[1]] = -1
            found[part] = similarity.max(axis=1)
    return found


def unit_length(x: NDArray[np.floating[Any]], dims: Sequence[int]) -> NDArray[np.float32]:
    """Return rows of unit length, in which all layers have the same length, float32 (N, dim).

    The product of two such rows is the mean over the layers of their cosine similarities. A layer of zeros stays so.

    Args:
        x: (N, dim), embeddings of the layers side by side.
        dims: Number of values of each layer's embedding. Their sum is dim.
    """
    if len(dims) == 1:
        return _unit_length(x)
    parts = np.split(x, np.cumsum(dims[:-1]), axis=1)
    joined: NDArray[np.float32] = np.concatenate([_unit_length(part) for part in parts], axis=1)
    joined /= np.float32(np.sqrt(len(dims)))
    return joined


def _unit_length(x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return rows divided by their lengths, float32 (N, dim). A row of zeros does not change."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    scaled = x / np.where(largest > 0, largest, 1)  # else squares of very large or small numbers leave float32
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    normalised: NDArray[np.float32] = (scaled / np.where(length > 0, length, 1)).astype(np.float32, copy=False)
    return normalised


def to_tensors(references: References) -> dict[str, NDArray[Any]]:
    """Return references as tensors by name. Texts are joined by NUL, which no path contains, and encoded as UTF-8."""
    texts = {"digest": references.digests, "path": references.paths, "label": references.labels}
    packed = {
        name: np.frombuffer(_NUL.join(values).encode("utf-8", "surrogateescape"), dtype=np.uint8)
        for name, values in texts.items()
    }
    dims = np.array(references.dims, dtype=np.int64)
    return {"dims": dims, "embedding": references.embeddings, "held_out": references.held_out, **packed}


def from_tensors(tensors: Mapping[str, NDArray[Any]]) -> References:
    """Return the references that `to_tensors` converted.

    Raises:
        KeyError: A tensor is missing.
        ValueError: The shapes of the tensors do not agree, or a text is not UTF-8.
    """
    texts = [tensors[name].tobytes().decode("utf-8", "surrogateescape") for name in ("digest", "path", "label")]
    digests, paths, labels = (text.split(_NUL) if text else [] for text in texts)
    embeddings, held_out = tensors["embedding"], tensors["held_out"]
    num, dims = len(embeddings), tensors["dims"].tolist()
    if not num == len(digests) == len(paths) == len(labels) or held_out.ndim != 2 or held_out.shape[1] != 2:
        raise ValueError(f"{num} references, {len(digests)} digests, held_out {held_out.shape}")
    return References(dims, digests, paths, labels, embeddings, held_out)
