"""The training embeddings of some layers side by side, read in blocks: from memory if they fit, else from the file."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.features import Features, columns_of
from headstart.base.errors import FeatureFileError

# Bytes that are read from the file at a time. Its parts by fold are still large enough for fast matrix products. It
# does not depend on runtime.memory, because sums over blocks would then depend on it in the last bits.
CHUNK_BYTES = 3 * 2**23
# Rows stay in memory if they need at most runtime.memory / MEMORY_DIVISOR. Reading 50,000 x 1,280 rows again takes as
# long as everything else in one pass of logistic regression.
MEMORY_DIVISOR = 4
# Columns whose median is further from zero than this many times their spread are shifted before products in float32.
# Otherwise rounding would hide their variance.
_FAR = 10
_ROWS_FOR_SHIFT = 200  # from each fold; median and spread are estimated from these rows

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class RowBlock:
    """Some training rows of the layers.

    Attributes:
        positions: (B,), ascending: positions of the rows among the N training rows.
        x: float32 (B, dim), the embeddings, each the mean over its views.
    """

    positions: NDArray[np.intp]
    x: NDArray[np.float32]

    def select(self, mask: Mask) -> "RowBlock":
        """Return the rows where the mask, bool (B,), is true."""
        return self if mask.all() else RowBlock(self.positions[mask], self.x[mask])


class LayerRows:
    """The training rows of some layers. They are read in blocks of one fold each, so leaving out a fold copies nothing.

    Attributes:
        num_rows: Number of rows, N.
        columns: The columns of each layer, by name, in the order of the layers.
        dim: Number of columns of all layers together.
        folds: int64 (N,), fold of every row.
        shift: float64 (dim,), what to subtract from each column before products in float32.
        divisor: float64 (dim,), what to divide the shifted columns by. Shift and divisor only protect the numerics:
            they are 0 and 1 unless a column lies far from zero, and no result depends on them except by rounding.

    Args:
        features: Open features file.
        layers: Names of some of its layers, whose embeddings are put side by side.
        digests: (N,) digests of the training images, ascending.
        folds: int64 (N,), fold of every row.
        max_bytes: Rows that need more bytes do not stay in memory. They are read from the file in every pass.

    Raises:
        FeatureFileError: The file lacks a layer or an image, or an embedding is not finite.
    """

    def __init__(
        self,
        features: Features,
        layers: Sequence[str],
        digests: Sequence[str],
        folds: NDArray[np.int64],
        max_bytes: int,
    ) -> None:
        self._features, self._layers, self._digests = features, layers, digests
        self._file_rows = features.rows(digests)
        self._loaded: list[list[RowBlock]] | None = None
        self._is_checked = False
        self.columns: Mapping[str, slice] = columns_of({layer: features.dim(layer) for layer in layers})
        self.num_rows, self.dim, self.folds = len(digests), self.columns[layers[-1]].stop, folds
        self._max_bytes = max_bytes
        self.load()
        first = np.concatenate([block.x[:_ROWS_FOR_SHIFT] for block in next(self.chunks())]).astype(np.float64)
        # Quantiles, so that a few rows of a held-out fold move neither shift nor divisor, however far away they are.
        low, median, high = np.quantile(first, (0.1, 0.5, 0.9), axis=0)
        spread = (high - low) / 2
        spread[spread == 0] = np.median(spread[spread > 0]) if spread.any() else 1.0
        is_far = np.abs(median) > _FAR * spread
        self.shift: NDArray[np.float64] = np.where(is_far, median, 0.0)
        self.divisor: NDArray[np.float64] = np.where(is_far, spread, 1.0)

    def load(self) -> None:
        """Read the rows into memory if they fit. Later passes then read no file."""
        num_bytes = self.num_rows * self.dim * np.dtype(np.float32).itemsize
        if num_bytes <= self._max_bytes and self._loaded is None:
            self._loaded = list(self.chunks())

    def release(self) -> None:
        """Free the memory. Later passes read the rows from the file."""
        self._loaded = None

    def select(self, layers: Sequence[str]) -> "LayerRows":
        """Return the same rows of fewer layers. They stay in memory if they fit.

        Args:
            layers: Names of some of these layers, in their order.
        """
        chosen, columns = copy.copy(self), self.positions_of(layers)
        chosen.columns = columns_of({layer: self._features.dim(layer) for layer in layers})
        chosen._layers, chosen.dim = layers, len(columns)  # noqa: SLF001 - its own class
        chosen.shift, chosen.divisor = self.shift[columns], self.divisor[columns]
        if len(columns) < self.dim and self._loaded is not None:
            chosen._loaded = [  # noqa: SLF001
                [RowBlock(block.positions, block.x[:, columns]) for block in chunk] for chunk in self._loaded
            ]
        chosen.load()
        return chosen

    def positions_of(self, layers: Sequence[str]) -> NDArray[np.intp]:
        """Return the positions of the columns of some layers, (sum of their dims,)."""
        return np.concatenate([np.arange(self.dim)[self.columns[layer]] for layer in layers])

    def chunks(self) -> Iterator[list[RowBlock]]:
        """Give all rows, one contiguous chunk of the file at a time, as one block for each fold in the chunk.

        Raises:
            FeatureFileError: An embedding is not finite.
        """
        if self._loaded is not None:
            yield from self._loaded
            return
        for positions, views in self._features.pieces(self._layers, self._file_rows, CHUNK_BYTES):
            x = views[:, 0] if views.shape[1] == 1 else views.mean(axis=1)
            chunk = RowBlock(positions, x)
            if not self._is_checked:
                self._check_finite(chunk)
            folds = self.folds[positions]
            yield [chunk.select(folds == fold) for fold in np.unique(folds)]
        self._is_checked = True

    def blocks(self, mask: Mask | None = None) -> Iterator[RowBlock]:
        """Give the rows in blocks. All rows of a block are in one fold.

        Args:
            mask: bool (N,), true for the rows to give. None: all rows.

        Raises:
            FeatureFileError: An embedding is not finite.
        """
        for block in chain.from_iterable(self.chunks()):
            inside = np.ones(len(block.x), dtype=bool) if mask is None else mask[block.positions]
            if inside.any():
                yield block.select(inside)

    def _check_finite(self, block: RowBlock) -> None:
        finite = np.isfinite(block.x)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            layer, columns = next(item for item in self.columns.items() if column < item[1].stop)
            raise FeatureFileError(
                f"features/features.h5: layer {layer!r}, column {column - columns.start}: the embedding of image "
                f"{self._digests[block.positions[row]]} is not finite. Run: dvc repro -f extract"
            )


def concatenate(blocks: Iterable[RowBlock]) -> RowBlock:
    """Return the rows of several blocks, at least one, as one block."""
    several = list(blocks)
    positions = np.concatenate([block.positions for block in several])
    return RowBlock(positions, np.concatenate([block.x for block in several]))
