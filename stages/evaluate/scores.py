"""The scores of one track on the test images: the value of each metric, with its interval."""

from typing import NamedTuple

import numpy as np

from headstart.tables.intervals import can_resample, percentile_interval, resamples, wilson_interval
from headstart.tables.outcomes import Outcomes
from stages.evaluate.metrics import METRICS


class Score(NamedTuple):
    """The value of a metric, with its 95 % confidence interval.

    Attributes:
        value: The score on all rows.
        low: Lower end of the interval; None if there is none.
        high: Upper end of the interval; None if there is none.
    """

    value: float
    low: float | None
    high: float | None


def score(outcomes: Outcomes, num_resamples: int, seed: int) -> dict[str, Score]:
    """Return the scores of one track by name of the metric, in the order of `METRICS`.

    A metric is left out if it needs more classes or is undefined for these images. There is no bootstrap interval if a
    class has fewer than five test images: resamples of so few images hardly differ, and the interval would be too
    narrow.

    Args:
        outcomes: Outcomes of at least one image.
        num_resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
    """
    counts = np.ones(outcomes.num_images, dtype=np.int64)
    metrics = [metric for metric in METRICS if outcomes.num_classes >= metric.fewest_classes]
    values = {metric.name: metric.function(outcomes, counts) for metric in metrics}
    scores = {name: Score(value, None, None) for name, value in values.items() if not np.isnan(value)}
    for metric in metrics:
        if metric.interval == "wilson" and metric.name in scores:
            value = values[metric.name]
            scores[metric.name] = Score(value, *wilson_interval(value, outcomes.num_images))
    if not can_resample(outcomes.target):
        return scores
    resampled = [metric for metric in metrics if metric.interval == "bootstrap" and metric.name in scores]
    draws = [
        [metric.function(outcomes, counts) for metric in resampled]
        for counts in resamples(outcomes.target, num_resamples, seed)
    ]
    for metric, drawn in zip(resampled, zip(*draws, strict=True), strict=True):
        if not np.isnan(drawn).any():
            scores[metric.name] = Score(values[metric.name], *percentile_interval(drawn))
    return scores
