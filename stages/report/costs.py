"""Costs: what the tracks took on this machine, in round numbers.

Timings differ from run to run. In steps of about two they rarely do, so that the page, and with it dvc.lock, stays the
same when nothing else changed; and more digits would promise what no other machine keeps.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Cost:
    """What one track takes.

    Attributes:
        track: Its name.
        training: Time, in words.
        prediction: Images per second, in words.
    """

    track: str
    training: str
    prediction: str


def costs_of(timings: Mapping[str, Mapping[str, Any]]) -> list[Cost]:
    """Return the costs of both tracks; the head predicts as fast as `extract` embeds."""
    unknown = "not measured here"
    rates = timings["extract"].get("images_per_second"), timings["finetune"].get("prediction_images_per_second")
    costs = []
    for track, rate in zip(("head", "finetune"), rates, strict=True):
        seconds = timings[track].get("training_seconds")
        costs.append(
            Cost(
                track=track,
                training=f"about {_duration(seconds)}" if seconds else unknown,
                prediction=f"about {_round(rate):g} images/s" if rate else unknown,
            )
        )
    return costs


def _round(value: float) -> float:
    """Return the nearest of 1, 2, 5, 10, 20, ... by ratio."""
    unit = 10.0 ** math.floor(math.log10(value))
    return min((unit * step for step in _STEPS), key=lambda candidate: abs(math.log(candidate / value)))


def _duration(seconds: float) -> str:
    for unit, name in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 0.75 * unit:
            number = _round(max(seconds / unit, 1.0))
            return f"{number:g} {name if number != 1 else name[:-1]}"
    number = _round(max(seconds, 0.1))
    return f"{number:g} second{'s' if number != 1 else ''}"
