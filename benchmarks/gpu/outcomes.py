"""Outcomes: what a section of the GPU benchmark found, and the two files that hold them all."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from headstart.base.files import write_bytes, write_json


@dataclass(frozen=True)
class Check:
    """Something that must hold.

    Attributes:
        name: What is checked.
        ok: Whether it holds.
        value: What was found.
        limit: What was expected.
    """

    name: str
    ok: bool
    value: str
    limit: str


@dataclass(frozen=True)
class Measure:
    """Something that was measured.

    Attributes:
        name: What was measured.
        value: Median over the rounds.
        unit: Unit of the value.
        spread: Half the range over the rounds, as a fraction of the median; 0 for a single round.
    """

    name: str
    value: float
    unit: str
    spread: float = 0.0


@dataclass(frozen=True)
class Skip:
    """Something that cannot be found here.

    Attributes:
        name: What was not checked or measured.
        reason: Why.
    """

    name: str
    reason: str


Outcome = Check | Measure | Skip


@dataclass(frozen=True)
class SectionResult:
    """What became of a section.

    Attributes:
        name: Name of the section.
        seconds: Seconds that it took, its start included.
        outcomes: What it found.
        problem: Why it did not end well; empty if it did.
    """

    name: str
    seconds: float
    outcomes: Sequence[Outcome]
    problem: str

    @property
    def ok(self) -> bool:
        """Whether the section ended and every check in it holds."""
        return not self.problem and all(each.ok for each in self.outcomes if isinstance(each, Check))


def below(name: str, value: float, limit: float) -> Check:
    """Return a check that a number is below a limit."""
    return Check(name, bool(value < limit), f"{value:.2g}", f"below {limit:.2g}")


def same(name: str, is_same: bool) -> Check:
    """Return a check that two results have the same bits."""
    return Check(name, is_same, "same bits" if is_same else "other bits", "same bits")


def dump(outcomes: Sequence[Outcome]) -> str:
    """Return outcomes as JSON, for `load`."""
    return json.dumps([{"type": type(each).__name__, **asdict(each)} for each in outcomes])


def load(text: str) -> list[Outcome]:
    """Return the outcomes that `dump` wrote."""
    types: dict[str, type[Outcome]] = {"Check": Check, "Measure": Measure, "Skip": Skip}
    return [types[each.pop("type")](**each) for each in json.loads(text)]


def write_tables(folder: Path, machine: str, results: Sequence[SectionResult]) -> str:
    """Write gpu.json and gpu.md into a folder and return the text of the latter.

    Args:
        folder: Where to.
        machine: What it was measured on, in one line.
        results: Results of all sections that ran.
    """
    write_json(folder / "gpu.json", {"machine": machine, "sections": [asdict(result) for result in results]})
    checks, measures = ["| check | found | expected | |", "|---|---|---|---|"], ["| measure | value |", "|---|---|"]
    for result in results:
        if result.problem:
            checks.append(f"| {result.name} | {result.problem} | ends well | **fails** |")
        for each in result.outcomes:
            if isinstance(each, Check):
                checks.append(f"| {each.name} | {each.value} | {each.limit} | {'ok' if each.ok else '**fails**'} |")
            elif isinstance(each, Skip):
                checks.append(f"| {each.name} | {each.reason} | | skipped |")
            else:
                spread = f" (+-{100 * each.spread:.0f} %)" if each.spread else ""
                measures.append(f"| {each.name} | {each.value:,.4g} {each.unit}{spread} |")
    text = f"{machine}\n\n" + "\n".join(checks) + "\n\n" + "\n".join(measures) + "\n"
    write_bytes(folder / "gpu.md", text.encode())
    return text
