"""The tolerance: how far two sets of embeddings of the same pictures may differ and still count as the same."""

import math

import numpy as np

from headstart.artifacts.features import Rows

# Largest difference between two sets of embeddings of the same pictures, in units of their root mean square, by
# precision. Measured with EfficientNet-Lite0 and SqueezeNet 1.1 in float32 on a CPU: other batches and threads 0, ONNX
# Runtime against torch 4e-6 to 2e-5; one layer's weights 0.1 % larger 0.006 to 0.014; the mean off by one gray level
# 0.06 to 0.13; another resize filter 0.5 and more. Rounding to float16 moves a large value by up to 5e-4 of itself.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2}


def relative_difference(kept: Rows, now: Rows) -> float:
    """Return the largest difference in units of the root mean square of `kept`; infinite if the shapes differ."""
    if kept.shape != now.shape:
        return math.inf
    wide = kept.astype(np.float64)
    scale = float(np.sqrt(np.mean(wide**2))) or 1.0
    return float(np.abs(wide - now).max()) / scale
