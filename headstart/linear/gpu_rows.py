"""Training rows in the memory of a GPU: there it sums what `sufficient_statistics` and `passes` sum on the CPU.

Every sum stays on the GPU until it is whole. So a pass waits for the GPU twice: when the model goes up and when the
sums come down. Import this module only if there is a GPU: it imports torch, which takes seconds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.linear.layer_rows import Mask, RowBlock
from headstart.linear.loss import LossSums
from headstart.linear.model import Float64Array, LinearModel
from headstart.linear.sufficient_statistics import SufficientStatistics
from headstart.linear.targets import Targets

# Rows in one product of second moments. They are few, as in the blocks of the CPU, because products are in float32 and
# only their sum is in float64.
_MOMENT_ROWS = 1024
_PIECE_NUMBERS = 2**24  # numbers in a temporary matrix of a pass: 64 MiB in float32. There are at most four at a time
_WORK_BYTES = 2**30  # what must be free beside the rows, for temporary matrices and torch's libraries
_MOST_RUNS = 32  # rows that are not in so few runs are gathered; each fold is one run


@dataclass(frozen=True)
class GpuRows:
    """Training rows on a GPU, those of each fold side by side.

    Attributes:
        x: float32 (B, dim), the rows, in the columns of a design matrix.
        classes: int64 (B,), number of each row's class.
        sample_weights: float64 (B,).
        positions: (B,), positions of the rows among the N training rows; on the CPU, as the targets are.
        targets: Targets of all N training rows.
    """

    x: torch.Tensor
    classes: torch.Tensor
    sample_weights: torch.Tensor
    positions: NDArray[np.intp]
    targets: Targets

    @classmethod
    def upload(cls, blocks: Iterable[RowBlock], folds: NDArray[np.int64], targets: Targets, device: str) -> "GpuRows":
        """Copy rows to a GPU.

        Args:
            blocks: The rows, in blocks of one fold each.
            folds: int64 (N,), fold of every training row; -1 if it is in no block.
            targets: Targets of all N training rows.
            device: Name of the device, such as `cuda:0`.

        Raises:
            RuntimeError: The memory of the GPU is too small (`is_out_of_memory`).
        """
        sizes = np.bincount(folds[folds >= 0])
        next_place = np.cumsum(sizes) - sizes  # of each fold
        positions, x = np.empty(sizes.sum(), dtype=np.intp), None
        for block in blocks:
            if x is None:
                x = _empty(len(positions), block.x.shape[1], torch.device(device))
            fold = folds[block.positions[0]]
            places = slice(next_place[fold], next_place[fold] + len(block.x))
            x[places] = torch.from_numpy(block.x)
            positions[places], next_place[fold] = block.positions, places.stop
        assert x is not None, "there are training rows"
        classes, weights = targets.classes[positions], targets.sample_weights[positions]
        return cls(x, torch.from_numpy(classes).to(device), torch.from_numpy(weights).to(device), positions, targets)

    def select(self, columns: NDArray[np.intp]) -> "GpuRows":
        """Return the same rows with some columns only, given by their positions."""
        return replace(self, x=self.x.index_select(1, torch.from_numpy(columns).to(self.x.device)))

    def statistics(self, mask: Mask) -> SufficientStatistics:
        """Return the statistics of the rows where the mask, bool (N,), is true. Products are computed in float32."""
        moments = _Moments(self.x, self.targets.num_classes)
        numbers = torch.arange(self.targets.num_classes, device=self.x.device)
        for piece in self.pieces(mask, _MOMENT_ROWS):
            one_hot = self.classes[piece][:, None] == numbers
            moments.add(self.x[piece], one_hot.to(self.x.dtype), self.sample_weights[piece])
        return moments.statistics()

    def passes(self, mask: Mask, column: NDArray[np.int64], *, exact: bool) -> "GpuPasses":
        """Return passes through the rows where the mask, bool (N,), is true. For the arguments see `GpuPasses`."""
        return GpuPasses(self, mask, column, exact=exact)

    def pieces(self, mask: Mask, num_rows: int) -> "Iterator[slice | torch.Tensor]":
        """Give the places of the rows where the mask, bool (N,), is true, so many at a time.

        Folds that the mask has as a whole are slices of `x`, so they are not copied.
        """
        is_inside = mask[self.positions]
        runs = np.flatnonzero(np.diff(is_inside, prepend=False, append=False)).reshape(-1, 2)
        if len(runs) > _MOST_RUNS:
            yield from torch.split(torch.from_numpy(np.flatnonzero(is_inside)).to(self.x.device), num_rows)
            return
        for first, end in runs.tolist():
            yield from (slice(start, min(start + num_rows, end)) for start in range(first, end, num_rows))


class GpuPasses:
    """Passes through some of the rows, as `Passes` on the CPU.

    Args:
        rows: The rows on the GPU.
        mask: bool (N,), true for the rows of the fit.
        column: int64 (C,), number of each class among the K classes of the fit; -1 for the others.
        exact: Whether products are computed in float64. Otherwise they are computed in float32.
    """

    def __init__(self, rows: GpuRows, mask: Mask, column: NDArray[np.int64], *, exact: bool) -> None:
        self._rows, self._num_classes = rows, int(column.max()) + 1
        self._classes = torch.from_numpy(column).to(rows.x.device)[rows.classes]
        self._dtype = torch.float64 if exact else torch.float32
        width = max(self._num_classes, rows.x.shape[1] if exact else 0)  # rows are copied only to convert them
        self._pieces = list(rows.pieces(mask, max(_PIECE_NUMBERS // width, 1)))
        self._mask = mask

    def loss_sums(self, model: LinearModel) -> LossSums:
        """See `Passes`."""
        weight, bias = _to_gpu(model, self._rows.x.device, self._dtype)
        loss, weight_gradient, bias_gradient = (
            weight.new_zeros(shape, dtype=torch.float64) for shape in ((), weight.shape, bias.shape)
        )
        lowest = weight.new_full((), torch.inf)
        for piece in self._pieces:
            x, classes = self._rows.x[piece].to(self._dtype), self._classes[piece]
            sample_weights = self._rows.sample_weights[piece]
            logits = torch.addmm(bias, x, weight.T)
            logsumexp = logits.logsumexp(dim=1)
            own = logits.gather(1, classes[:, None])[:, 0]
            loss += sample_weights @ (logsumexp - own).double()
            lowest = torch.minimum(lowest, logsumexp.min())
            residuals = logits.sub_(logsumexp[:, None]).exp_()  # probabilities, in the memory of the logits
            residuals[torch.arange(len(own), device=own.device), classes] -= 1
            residuals *= sample_weights.to(self._dtype)[:, None]
            weight_gradient += residuals.T @ x
            bias_gradient += residuals.sum(dim=0, dtype=torch.float64)
        sums = _to_cpu(loss, weight_gradient, bias_gradient, lowest.double())
        return LossSums(float(sums[0]), sums[1], sums[2], float(sums[3]))

    def curvature(self, model: LinearModel) -> SufficientStatistics:
        """See `Passes`."""
        weight, bias = _to_gpu(model, self._rows.x.device, torch.float64)
        moments = _Moments(self._rows.x, 0)
        for piece in self._rows.pieces(self._mask, max(_PIECE_NUMBERS // max(weight.shape), 1)):
            x = self._rows.x[piece].double()
            probabilities = torch.addmm(bias, x, weight.T).softmax(dim=1)
            curvatures = (probabilities * (1 - probabilities)).mean(dim=1)
            moments.add(x, x[:, :0], self._rows.sample_weights[piece] * curvatures)
        return moments.statistics()

    def factor(self, matrix: Float64Array) -> "GpuFactor":
        """See `Passes`."""
        return GpuFactor(matrix, self._rows.x.device)


class GpuFactor:
    """The Cholesky factor of a matrix (r, r), as `Factor` on the CPU. It stays on the GPU; rows go up and come down.

    A pass needs two quotients by the factor of the preconditioner. With many columns they would take one core of a CPU
    far longer than the GPU takes for the rows.
    """

    def __init__(self, matrix: Float64Array, device: torch.device) -> None:
        self._factor = torch.linalg.cholesky(torch.from_numpy(matrix).to(device))

    def product(self, rows: Float64Array) -> Float64Array:
        """See `Factor`."""
        return _to_cpu(self._up(rows) @ self._factor)[0]

    def quotient(self, rows: Float64Array) -> Float64Array:
        """See `Factor`."""
        return _to_cpu(torch.linalg.solve_triangular(self._factor, self._up(rows), upper=False, left=False))[0]

    def quotient_by_transposed(self, rows: Float64Array) -> Float64Array:
        """See `Factor`."""
        return _to_cpu(torch.linalg.solve_triangular(self._factor.T, self._up(rows), upper=True, left=False))[0]

    def _up(self, rows: Float64Array) -> torch.Tensor:
        return torch.from_numpy(rows).to(self._factor.device)


class _Moments:
    """Sums `SufficientStatistics`. They are first taken about a point near the mean, where float32 loses little.

    Args:
        rows: float32 (N, dim), on the GPU.
        num_targets: Number of targets of a row, T.
    """

    def __init__(self, rows: torch.Tensor, num_targets: int) -> None:
        self._origin, dim = rows[:_MOMENT_ROWS].mean(dim=0), rows.shape[1]
        self._w, self._wyy, self._wx, self._wy, self._wxx, self._wxy = (
            rows.new_zeros(shape, dtype=torch.float64)
            for shape in ((), (), dim, num_targets, (dim, dim), (dim, num_targets))
        )

    def add(self, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor) -> None:
        """Add rows x (B, dim), targets y (B, T) and weights, float64 (B,). Products of x have its precision."""
        x = x - self._origin
        root = weights.sqrt().to(x.dtype)[:, None]
        self._w += weights.sum()
        self._wx += weights @ x.double()
        self._wy += weights @ y.double()
        self._wyy += (weights @ y.double().square()).sum()
        x, y = x * root, y * root
        self._wxx += x.T @ x
        self._wxy += x.T @ y

    def statistics(self) -> SufficientStatistics:
        """Return the sums about zero."""
        origin = self._origin.double()
        self._wxx += torch.outer(origin, self._wx)
        self._wx += self._w * origin
        self._wxx += torch.outer(self._wx, origin)
        self._wxy += torch.outer(origin, self._wy)
        w, wx, wy, wxx, wxy, wyy = _to_cpu(self._w, self._wx, self._wy, self._wxx, self._wxy, self._wyy)
        return SufficientStatistics(float(w), wx, wy, wxx, wxy, float(wyy))


def _empty(num_rows: int, dim: int, device: torch.device) -> torch.Tensor:
    """Return memory for float32 (num_rows, dim), if enough memory then stays free."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # memory that torch only keeps counts as free
        free, _ = torch.cuda.mem_get_info(device)
        if num_rows * dim * torch.float32.itemsize + _WORK_BYTES > free:
            raise torch.OutOfMemoryError(f"{device}: {free} bytes are free, too few for {num_rows} x {dim} rows")
    return torch.empty((num_rows, dim), device=device)


def _to_gpu(model: LinearModel, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Copy weights (K, dim) and biases (K,) to a GPU, in one copy."""
    num_weights = model.weight.size
    flat = torch.from_numpy(np.concatenate([model.weight.ravel(), model.bias])).to(dtype).to(device)
    return flat[:num_weights].view(model.weight.shape), flat[num_weights:]


def _to_cpu(*sums: torch.Tensor) -> list[Float64Array]:
    """Copy float64 tensors from a GPU, in one copy."""
    flat = torch.cat([each.ravel() for each in sums]).cpu().numpy()
    parts = np.split(flat, np.cumsum([each.numel() for each in sums])[:-1])
    return [part.reshape(tuple(each.shape)) for part, each in zip(parts, sums, strict=True)]
