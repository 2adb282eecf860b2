"""The advice that `compare` gives: verdicts and suggestions in words, as one JSON file."""

from dataclasses import asdict
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from headstart.base.files import write_json
from headstart.tables.documents import read_document

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Verdict:
    """One conclusion from the measurements.

    Attributes:
        verdict: The conclusion, in a word or two.
        why: The reason, in sentences with numbers.
    """

    verdict: str
    why: str


@dataclass(frozen=True, config=_STRICT)
class Suggestion:
    """What to try next.

    Attributes:
        command: A command that can be run as it is; empty if the work is done by hand.
        why: The reason, in a sentence.
    """

    command: str
    why: str


@dataclass(frozen=True, config=_STRICT)
class Advice:
    """What the measurements say about the data set and the tracks.

    Attributes:
        size: Whether the data set is `small` or `large`, or `cannot tell`.
        similarity: Whether the images are `similar` to those that the backbone was trained on, or `different`, or
            `cannot tell`.
        layer: The layer that the head uses.
        ship: The track to use.
        rule: What the rule of thumb says about this case, and whether the measurement agrees.
        suggestions: What to try next, the most promising first.
    """

    size: Verdict
    similarity: Verdict
    layer: Verdict
    ship: Verdict
    rule: str
    suggestions: list[Suggestion]


def write_advice(path: Path, advice: Advice) -> None:
    """Write advice as JSON. Equal advice gives equal bytes."""
    write_json(path, asdict(advice))


def read_advice(path: Path) -> Advice:
    """Read a file that `write_advice` wrote.

    Raises:
        TableError: The file is missing, or its content is not an `Advice`.
    """
    return read_document(path, Advice, "compare")
