"""The ranking of many revisions. The best of many is lucky, so the tests are corrected for their number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstart.tables.intervals import CONFIDENCE, wilson_interval
from headstart.tables.pairs import pair, take
from headstart.tables.predictions import Predictions


@dataclass(frozen=True)
class Ranked:
    """One revision of the ranking.

    Attributes:
        name: Name of the revision.
        accuracy: Accuracy on the test images that all revisions have.
        low: Lower end of the 95 % interval of the accuracy (Wilson).
        high: Upper end of the interval.
        difference: Accuracy minus that of the baseline; None for the baseline, as what follows.
        difference_low: Lower end of the 95 % interval of the difference. It is not corrected for their number.
        difference_high: Upper end of that interval.
        p_value: Two-sided p-value of the exact McNemar test against the baseline.
        p_holm: The p-value, corrected by Holm's method for the number of comparisons.
    """

    name: str
    accuracy: float
    low: float
    high: float
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    p_holm: float | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.p_holm is not None and self.p_holm < 1 - CONFIDENCE


@dataclass(frozen=True)
class Ranking:
    """Revisions of one track by accuracy.

    Attributes:
        track: Name of the track.
        baseline: Name of the revision that the others are compared with.
        num_images: Number of test images that all revisions have.
        num_tested: Number of test images of the baseline.
        rows: The revisions, the most accurate first.
    """

    track: str
    baseline: str
    num_images: int
    num_tested: int
    rows: Sequence[Ranked]


def rank(track: str, runs: Sequence[tuple[str, Predictions]]) -> Ranking:
    """Rank revisions on the test images that all have, by the labels of the baseline.

    Args:
        track: Name of the track.
        runs: Name and predictions of each revision, the baseline first.
    """
    (name, baseline), *others = runs
    common = set(baseline.digests).intersection(*(predictions.digests for _, predictions in others))
    rows = [row for row, digest in enumerate(baseline.digests) if digest in common]
    chosen = take(baseline, rows, [baseline.labels[row] for row in rows])
    if not rows:
        return Ranking(track, name, 0, len(baseline.digests), [])
    first = float(np.mean([label == name for label, name in zip(chosen.labels, chosen.predicted, strict=True)]))
    ranked = [Ranked(name, first, *wilson_interval(first, len(rows)))]
    pairs = [pair(predictions, chosen) for _, predictions in others]  # with the labels of the baseline
    p_values = [one.p_value for one in pairs]
    for (other, _), one, p_value, p_holm in zip(others, pairs, p_values, holm(p_values), strict=True):
        accuracy, (low, high) = float(one.was_right.mean()), one.interval
        interval = wilson_interval(accuracy, len(rows))
        ranked.append(Ranked(other, accuracy, *interval, accuracy - first, -high, -low, p_value, p_holm))
    return Ranking(track, name, len(rows), len(baseline.digests), sorted(ranked, key=lambda row: -row.accuracy))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979): the chance of any false alarm stays below the level.

    Args:
        p_values: (K,) p-values of K tests.

    Returns:
        (K,) corrected p-values, in the same order.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank_number, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank_number) * p_values[place]))
        corrected[place] = largest
    return corrected
