"""Verdicts: what the comparison makes of the measurements, in words, as one JSON file."""

from dataclasses import asdict
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from headstart.base.errors import TableError
from headstart.base.files import write_json

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Verdict:
    """One finding.

    Attributes:
        verdict: In a word or two.
        why: In a sentence, with its numbers.
    """

    verdict: str
    why: str


@dataclass(frozen=True, config=_STRICT)
class Suggestion:
    """What to try next.

    Attributes:
        command: To be run as it is; empty where it is something to do by hand.
        why: In a sentence.
    """

    command: str
    why: str


@dataclass(frozen=True, config=_STRICT)
class Advice:
    """What the measurements say.

    Attributes:
        size: `small`, `large` or `cannot tell`.
        similarity: To what the backbone was trained on: `similar`, `different` or `cannot tell`.
        layer: Layer for the head.
        ship: Track to use.
        rule: What the rule of thumb says of this case, and whether the measurement agrees.
        suggestions: What to try next, the most promising first.
    """

    size: Verdict
    similarity: Verdict
    layer: Verdict
    ship: Verdict
    rule: str
    suggestions: list[Suggestion]


def write_advice(path: Path, advice: Advice) -> None:
    """Write it; equal advice gives equal bytes."""
    write_json(path, asdict(advice))


def read_advice(path: Path) -> Advice:
    """Read what `write_advice` wrote.

    Raises:
        TableError: The file is missing, or is not what was written.
    """
    remedy = "Run: dvc repro compare"
    try:
        return TypeAdapter(Advice).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise TableError(f"{path}: is missing. {remedy}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"]) or "the file"
        raise TableError(f"{path}: {place}: {first['msg']}. {remedy}") from error
