"""The one-standard-error rule."""

import numpy as np

from headstart.linear.selection import one_standard_error_choice


def test_ties_go_to_the_simplest_choice() -> None:
    """The first choice within one standard error of the best one is taken, by paired differences of the folds."""
    noise = np.array([0.0, 0.3, -0.2, 0.1, -0.1])[:, None]  # of the folds, the same for every choice
    clear = np.array([[0.5, 0.2, 0.1, 0.2]]) + noise
    wobble = np.array([[0.0, 0.001], [0.0, -0.002], [0.0, 0.002], [0.0, -0.001], [0.0, -0.0005]])

    assert one_standard_error_choice(list(clear.T)) == 2
    near = np.concatenate([clear[:, :1], clear[:, 2:3] + wobble], axis=1)
    assert one_standard_error_choice(list(near.T)) == 1
    assert one_standard_error_choice(list(np.zeros((3, 5)))) == 0


def test_more_standard_errors_take_simpler_choices() -> None:
    """With more standard errors, a choice counts as good that is clearly worse by one."""
    best = np.zeros(20, dtype=np.float32)
    worse = np.where(np.arange(20) < 3, 1.0, 0.0).astype(np.float32)  # 0.15 on average, with a standard error of 0.082

    assert [one_standard_error_choice([worse, best], num) for num in (1.0, 1.5, 2.0)] == [1, 1, 0]
