"""The loop: rounds of harm, each followed by runs until one succeeds, and by the oracle's verdict."""

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from headstart.base.errors import ParamsError
from headstart.base.params import check_sections
from stages.params import all_sections
from tests.chaos import oracle
from tests.chaos.actions import ACTIONS
from tests.chaos.advice import follow
from tests.chaos.disturbances import DISTURBANCES, Disturbance, fill_disk
from tests.chaos.project import HangsError, Outcome, copy_tree, kill_all, make_project

T = TypeVar("T")
# The head takes seconds, all stages half a minute.
_TARGETS = {"evaluate@head": 8, "evaluate@finetune": 1, "report": 1}
_MOST_ATTEMPTS = 8
_MOST_ACTIONS = 5
_DISTURBED = 0.6  # fraction of the rounds in which something happens while a run works
_DISK_BYTES = 2**28
_TRACEBACK = "Traceback (most recent call last)"


class Finding(Exception):  # noqa: N818 - what the test is made to find
    """The project was wrong and did not say so, or what it advised did not help."""


@dataclass
class Chaos:
    """A chaos test in a folder of its own.

    Attributes:
        folder: Folder for the project, the oracle's clone, and what is kept of rounds with findings.
        seed: Seed of all random choices. Only the times at which processes get on differ between two tests.
        findings: What was found, by number of the round.
    """

    folder: Path
    seed: int
    findings: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Mount the small disk, if that is allowed, and make the project."""
        self.disk, self.log = self.folder / "disk", self.folder / "log.txt"
        self.disk.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "chaos", str(self.disk)]
        self._is_mounted = subprocess.run(mount, capture_output=True).returncode == 0
        self._disturbances: Mapping[Disturbance, int] = DISTURBANCES
        if not self._is_mounted:
            self._disturbances = {one: weight for one, weight in DISTURBANCES.items() if one is not fill_disk}
            self.say("only root may mount a small disk: fill_disk is left out")
        self.project = make_project(self.disk / "project", self.folder / "weights" / "tiny.safetensors")
        copy_tree(self.folder / "weights" / "store" / "engines", self.folder / "engines")
        copy_tree(self.project.root, self.folder / "pristine")

    def close(self) -> None:
        """Kill what is still at work, and unmount the small disk."""
        kill_all()
        if self._is_mounted:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=True)

    def play(self, number: int, start: Path | None = None) -> None:
        """Play one round. After a finding, keep its project and begin again with a new one.

        Args:
            number: Number of the round.
            start: Project to start from; None for the one that the last round left.
        """
        if start is not None:
            copy_tree(start, self.project.root)
        before = self.folder / "before"
        copy_tree(self.project.root, before)
        began = time.monotonic()
        try:
            verdict = self._round(Random(f"{self.seed} {number}"))
        except (Finding, HangsError, OSError, AssertionError) as finding:
            self.findings[number] = f"{type(finding).__name__}: {finding}"
            kept = self.folder / f"round-{number}"
            kept.mkdir()
            before.rename(kept / "before")
            copy_tree(self.project.root, kept / "after")
            verdict = f"FINDING: {finding}\n  replay: python -m tests.chaos --seed {self.seed} --replay {kept}"
            (kept / "finding.txt").write_text(self.findings[number], encoding="utf-8")
            copy_tree(self.folder / "pristine", self.project.root)
        self.say(f"round {number} ({time.monotonic() - began:.0f} s): {verdict}")

    def say(self, line: str) -> None:
        """Print a line, and add it to the log."""
        print(line, flush=True)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def _round(self, random: Random) -> str:
        target = _draw(_TARGETS, random)
        for _ in range(random.randint(1, _MOST_ACTIONS)):
            self.say(f"  {_draw(ACTIONS, random)(self.project, random)}")
        if random.random() < _DISTURBED:
            what, outcomes = _draw(self._disturbances, random)(self.project, random, target)
            self.say(f"  {what}")
            for outcome in outcomes:
                said = f": {_last_message(outcome.output)}" if outcome.returncode else ""
                self.say(f"    {outcome.command} ends with {outcome.returncode}{said}")
                _check(outcome)
        num_said = self._settle(target)
        differences = oracle.ask(self.project, self.folder / "oracle" / "project", self.folder / "engines", target)
        if differences:
            raise Finding("\n    ".join([f"{target} says that all is well, and a clean clone differs:", *differences]))
        return f"{target}: a clean clone agrees" + (f" after {num_said} message(s)" if num_said else "")

    def _settle(self, target: str) -> int:
        """Run until all is well, doing what messages advise. Return how many messages there were."""
        for number in range(_MOST_ATTEMPTS):
            outcome = self.project.finish("dvc", "repro", target)
            _check(outcome)
            # Where no stage has to run, nobody reads params.yaml.
            message = outcome.output if outcome.returncode else self._mistakes_in_params()
            if not message:
                return number
            did = follow(self.project, message)
            if did is None:
                raise Finding(f"no known advice in:\n{message[-3000:]}")
            self.say(f"  {_last_message(message)}\n    -> {did}")
        raise Finding(f"{_MOST_ATTEMPTS} times advice was followed, and it still says:\n{outcome.output[-3000:]}")

    def _mistakes_in_params(self) -> str:
        """Return the message about params.yaml; empty if nothing is wrong."""
        try:
            check_sections(self.project.root / "params.yaml", all_sections())
        except ParamsError as error:
            return str(error)
        return ""


def _check(outcome: Outcome) -> None:
    """Raise if a command showed a stack trace, unless it was interrupted before our code was there to catch it."""
    if _TRACEBACK in outcome.output and "KeyboardInterrupt" not in outcome.output:
        raise Finding(f"{outcome.command} shows a stack trace:\n{outcome.output[-6000:]}")


def _last_message(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("ERROR: failed to reproduce")]
    return lines[-1] if lines else "(no message)"


def _draw(choices: Mapping[T, int], random: Random) -> T:
    return random.choices(list(choices), list(choices.values()))[0]
