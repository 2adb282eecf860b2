"""Rows: the training embeddings of one layer, a block at a time, from memory if they fit and else from the file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.features import Features
from headstart.base.errors import FeatureFileError

# What is read at a time: in parts by fold still large enough for fast matrix products. Not from runtime.memory: sums
# over blocks would then depend on it.
STRETCH_BYTES = 3 * 2**23
# Rows are kept if they take no more than this part of runtime.memory: reading 50,000 x 1,280 again takes as long as all
# else in a pass of logistic regression.
ROWS_FRACTION = 4
# Columns further from zero than so many times their spread are shifted before products in float32, whose rounding would
# else hide their variance.
_FAR = 10
_FIRST = 200  # rows of each fold that tell how far

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """Some rows.

    Attributes:
        positions: (B,) in the training table, ascending.
        x: float32 (B, dim) embeddings, the mean over the views.
    """

    positions: NDArray[np.intp]
    x: NDArray[np.float32]

    def of(self, chosen: Mask) -> "Block":
        """Return the chosen ones of the rows, (B,)."""
        return self if chosen.all() else Block(self.positions[chosen], self.x[chosen])


class Rows:
    """The training rows of one layer, in blocks of one fold each, so that leaving out a fold copies nothing.

    Attributes:
        num: Rows.
        dim: Columns.
        folds: (N,) fold of every row.
        shift: (dim,) and
        unit: (dim,) bring columns that lie far from zero near it, for numerics only: no result depends on them.

    Args:
        features: Open features file.
        layer: One of its layers.
        digests: (N,) the rows, ascending.
        folds: (N,) fold of every row.
        memory: Bytes; rows that take more are not kept but read again whenever they are needed.

    Raises:
        FeatureFileError: No such layer, an image without a row, or an embedding that is not finite.
    """

    def __init__(
        self, features: Features, layer: str, digests: Sequence[str], folds: NDArray[np.int64], memory: int
    ) -> None:
        self._features, self._layer, self._digests = features, layer, digests
        self._file_rows = features.rows(digests)
        self._kept: list[list[Block]] | None = None
        self._all_checked = False
        self.num, self.dim, self.folds = len(digests), features.dim(layer), folds
        self._fit = self.num * self.dim * np.dtype(np.float32).itemsize <= memory
        self.keep()
        first = np.concatenate([block.x[:_FIRST] for block in next(self.stretches())]).astype(np.float64)
        # Of ranks, so that a few rows of a held-out fold, however far away, move neither.
        low, centre, high = np.quantile(first, (0.1, 0.5, 0.9), axis=0)
        spread = (high - low) / 2
        spread[spread == 0] = np.median(spread[spread > 0]) if spread.any() else 1.0
        far = bool((np.abs(centre) > _FAR * spread).any())
        self.shift: NDArray[np.float64] = centre if far else np.zeros(self.dim)
        self.unit: NDArray[np.float64] = spread if far else np.ones(self.dim)

    def keep(self) -> None:
        """Read the rows into memory, if they fit."""
        if self._fit and self._kept is None:
            self._kept = list(self.stretches())

    def forget(self) -> None:
        """Give back the memory; rows that are needed again are read again."""
        self._kept = None

    def stretches(self) -> Iterator[list[Block]]:
        """Give the rows, neighbours in the file at a time: a block for each of the folds that they are in."""
        if self._kept is not None:
            yield from self._kept
            return
        for positions, views in self._features.pieces(self._layer, self._file_rows, STRETCH_BYTES):
            x = views[:, 0] if views.shape[1] == 1 else views.mean(axis=1)
            if not self._all_checked:
                self._check(Block(positions, x))
            folds = self.folds[positions]
            yield [Block(positions, x).of(folds == fold) for fold in np.unique(folds)]
        self._all_checked = True

    def blocks(self, chosen: Mask | None = None) -> Iterator[Block]:
        """Give the rows, or the chosen ones of them (N,), each block of one fold."""
        for block in chain.from_iterable(self.stretches()):
            inside = np.ones(len(block.x), dtype=bool) if chosen is None else chosen[block.positions]
            if inside.any():
                yield block.of(inside)

    def _check(self, block: Block) -> None:
        finite = np.isfinite(block.x)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise FeatureFileError(
                f"features/features.h5: layer {self._layer!r}, column {column}: the embedding of image "
                f"{self._digests[block.positions[row]]} is not finite. Run: dvc repro -f extract"
            )


def merged(blocks: Iterable[Block]) -> Block:
    """Return all rows of some blocks as one."""
    several = list(blocks)
    positions = np.concatenate([block.positions for block in several])
    return Block(positions, np.concatenate([block.x for block in several]))
