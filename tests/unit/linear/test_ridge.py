"""The normal equations of ridge regression where they have no solution. `test_design` compares the solutions."""

import numpy as np
import pytest

from headstart.base.errors import TrainingError
from tests.support.head_data import DesignsOf, clusters, equal_targets


def test_too_little_regularisation_for_float32_is_an_error_that_names_the_params(
    designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If rounding hides the variance of the columns, the error names c and the params instead of a LAPACK error."""
    monkeypatch.setattr("headstart.linear.design._LARGE", 0)
    x, classes = clusters(90, 4, 3)
    monkeypatch.setattr("headstart.linear.layer_rows._FAR", 1e9)
    designs = designs_of(x + np.float32(5000), equal_targets(classes, 3))

    with pytest.raises(TrainingError, match=r"c = 1e\+09 .*smaller c \(head\.c"):
        designs.ridge(designs.without_fold(0), 1e9)
