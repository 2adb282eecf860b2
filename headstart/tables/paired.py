"""Paired tests: whether one of two models is really better, from the images that only one of them got right."""

import numpy as np

from headstart.tables.intervals import HALF_WIDTH


def mcnemar_p(num_first: int, num_second: int) -> float:
    """Return the two-sided p-value of the exact McNemar test (McNemar 1947, with the exact binomial distribution).

    Args:
        num_first: Number of images that only the first got right.
        num_second: Number of images that only the second got right.
    """
    num = num_first + num_second
    ways = num_outcomes = 1
    for fewer in range(min(num_first, num_second)):
        ways = ways * (num - fewer) // (fewer + 1)  # of choosing `fewer + 1` images among `num`
        num_outcomes += ways
    return min(1.0, 2 * num_outcomes / 2**num)


def paired_interval(num: int, num_first: int, num_second: int) -> tuple[float, float]:
    """Return the 95 % interval of the second's accuracy minus the first's (Agresti & Min 2005).

    It is Wald's interval after half an image is added to each of the four cells of the table of right and wrong. If the
    two agree on every image, the interval still has a width; a bootstrap interval would have none.

    Args:
        num: Number of images.
        num_first: Number of images that only the first got right.
        num_second: Number of images that only the second got right.

    Returns:
        The lower and the upper end, in [-1, 1].
    """
    first, second, total = num_first + 0.5, num_second + 0.5, num + 2
    middle = (second - first) / total
    margin = HALF_WIDTH * np.sqrt((first + second) / total - middle**2) / np.sqrt(total)
    return max(-1.0, float(middle - margin)), min(1.0, float(middle + margin))
