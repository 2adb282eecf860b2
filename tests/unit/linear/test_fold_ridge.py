"""Ridge regression without each fold on sets of layers, against refits by scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from headstart.artifacts.features import open_features
from headstart.linear.fold_ridge import FoldRidge, Problem
from headstart.linear.folds import make_folds
from headstart.linear.layer_rows import LayerRows
from headstart.linear.targets import Targets
from tests.support.head_data import FOLDS, RESOURCES, clusters, digests_of, standardisation, write_features

SETS = [("narrow",), ("wide",), ("narrow", "wide"), ("narrow", "middle", "wide")]
C_GRID = [1e-3, 0.1, 10.0]


@pytest.mark.parametrize(
    ("num", "max_bytes"), [(300, 2**30), (300, 16), (60, 2**30), (30, 2**30)], ids=["many", "streamed", "few", "fewest"]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_errors_and_logits_of_every_set_are_those_of_refits(
    tmp_path: Path, num: int, max_bytes: int, weighted: bool
) -> None:
    """For every set of layers, fold and c, error and logits are those of Ridge on columns scaled layer by layer.

    With 300 rows the sets are fitted from statistics, with 30 from kernels, with 60 from either.
    """
    x, classes = clusters(num, 90, 3)
    x[:, 1] -= np.float32(1e6)  # no column far from zero here; `test_design` has such columns
    layers = {"narrow": x[:, :8], "middle": x[:, 8:28], "wide": x[:, 28:]}
    weights = np.array([1.0, 0.5, 2.5])[classes] if weighted else np.ones(num)
    digests = digests_of(num)
    write_features(tmp_path / "f.h5", digests, layers)
    folds = make_folds([str(number) for number in classes], digests, FOLDS, 0, "head.folds")
    one_hot = np.eye(3)[classes]
    with open_features(tmp_path / "f.h5") as features:
        rows = LayerRows(features, list(layers), digests, folds, max_bytes)
        ridge = FoldRidge(Problem(rows, Targets(classes, weights, 3), FOLDS, RESOURCES))
        for names, fits in zip(SETS, ridge.fit(SETS, C_GRID), strict=True):
            mean_width = np.mean([layers[name].shape[1] for name in names])
            parts = []
            for name in names:
                values = layers[name].astype(np.float64)
                mean, scale = standardisation(values, weights)
                parts.append((values - mean) / scale / np.sqrt(values.shape[1] / mean_width))
            wide = np.concatenate(parts, axis=1)
            for place, c in enumerate(C_GRID):
                logits = fits.logits(place)
                for fold in range(FOLDS):
                    held = folds == fold
                    oracle = Ridge(alpha=1 / c, solver="svd").fit(wide[~held], one_hot[~held], weights[~held])
                    predicted = oracle.predict(wide[held])
                    squares = ((predicted - one_hot[held]) ** 2).sum(axis=1)

                    assert fits.errors[fold, place] == pytest.approx(np.average(squares, weights=weights[held]))
                    assert np.allclose(logits[held], predicted, atol=1e-4)
