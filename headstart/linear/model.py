"""The linear model that every solver returns, and the array type that the package computes with."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


class LinearModel(NamedTuple):
    """Weights and biases of a linear classifier: logits = weight @ x + bias.

    The columns that `x` has depend on the owner: the embedding itself, or the columns of a `DesignMatrix`. The methods
    `to_embedding_columns` and `to_design_columns` of `DesignMatrix` convert between the two.

    Attributes:
        weight: float64 (C, dim), one row for each class.
        bias: float64 (C,), the intercepts.
    """

    weight: Float64Array
    bias: Float64Array

    def logits(self, x_BD: NDArray[np.floating]) -> Float64Array:
        """Return the logits of some rows, float64 (B, C). The product is computed in the precision of the rows.

        Args:
            x_BD: float32 or float64 (B, dim) rows.
        """
        return x_BD @ self.weight.T.astype(x_BD.dtype) + self.bias
