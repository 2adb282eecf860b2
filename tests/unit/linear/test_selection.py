"""The one-standard-error rule."""

import numpy as np

from headstart.linear.selection import one_standard_error_choice


def test_ties_go_to_the_simplest_choice() -> None:
    """The first choice within one standard error of the best one is taken, by paired differences of the folds."""
    noise = np.array([0.0, 0.3, -0.2, 0.1, -0.1])[:, None]  # of the folds, the same for every choice
    clear = np.array([[0.5, 0.2, 0.1, 0.2]]) + noise
    wobble = np.array([[0.0, 0.001], [0.0, -0.002], [0.0, 0.002], [0.0, -0.001], [0.0, -0.0005]])

    assert one_standard_error_choice(clear) == 2
    assert one_standard_error_choice(np.concatenate([clear[:, :1], clear[:, 2:3] + wobble], axis=1)) == 1
    assert one_standard_error_choice(np.zeros((5, 3))) == 0
