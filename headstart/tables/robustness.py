"""The accuracy of both tracks on shifted pictures, as one JSON file."""

from dataclasses import asdict
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from headstart.base.files import write_json
from headstart.tables.documents import read_document

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Accuracy:
    """An accuracy with its 95 % interval.

    Attributes:
        accuracy: Fraction of the images that are right.
        low: Lower end of Wilson's interval.
        high: Upper end of that interval.
    """

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, config=_STRICT)
class Condition:
    """Both tracks on the same images, unshifted or under one shift.

    Attributes:
        name: `unshifted`, or the name of the shift.
        title: Name and strength, for people.
        head: Accuracy of the head.
        finetune: Accuracy of the fine-tuned network.
        difference: Accuracy of the fine-tuned network minus that of the head.
        difference_low: Lower end of the 95 % interval of the difference.
        difference_high: Upper end of that interval.
        p_value: Two-sided p-value of the exact McNemar test.
    """

    name: str
    title: str
    head: Accuracy
    finetune: Accuracy
    difference: float
    difference_low: float
    difference_high: float
    p_value: float


@dataclass(frozen=True, config=_STRICT)
class Robustness:
    """The check on shifted pictures.

    Attributes:
        num_images: Number of test images; 0 if the photos were not there.
        conditions: `unshifted`, then every shift; empty if there were no images.
        mean_head: Mean accuracy of the head over the shifts; None if there were no images.
        mean_finetune: The same of the fine-tuned network.
    """

    num_images: int
    conditions: list[Condition]
    mean_head: float | None
    mean_finetune: float | None


def write_robustness(path: Path, robustness: Robustness) -> None:
    """Write the accuracies as JSON, with floats rounded to 6 decimals. Equal ones give equal bytes."""
    write_json(path, {name: _rounded(value) for name, value in asdict(robustness).items()})


def read_robustness(path: Path) -> Robustness:
    """Read a file that `write_robustness` wrote.

    Raises:
        TableError: The file is missing, or its content is not a `Robustness`.
    """
    return read_document(path, Robustness, "robustness")


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value
