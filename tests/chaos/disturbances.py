"""Disturbances of a run: kills, stops, edits, a second run, a full disk, a jumping clock. Each says what it did."""

import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from tests.chaos.actions import WHILE_RUNNING
from tests.chaos.project import ChaosProject, Outcome

# What it did, and how the commands that it ran ended.
Disturbed = tuple[str, list[Outcome]]
Disturbance = Callable[[ChaosProject, Random, str], Disturbed]
_LONGEST_SECONDS = 9.0  # a run of the head takes as long
_STOPPED_SECONDS = 3.0
_DAY_SECONDS = 86_400
# Each Python of a run imports this at its start: its clock then differs from that of the disk.
_CLOCK = """
import os, time
shift, now, now_ns = float(os.environ["CHAOS_CLOCK"]), time.time, time.time_ns
time.time = lambda: now() + shift
time.time_ns = lambda: now_ns() + int(shift) * 10**9
"""


def kill(project: ChaosProject, random: Random, target: str) -> Disturbed:
    """End all processes, DVC alone (which leaves an orphan), or the stage alone."""
    number = random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    whom = random.choice(["all", "dvc", "stage"])
    seconds = random.uniform(0.5, _LONGEST_SECONDS)
    run = project.start("dvc", "repro", target)
    was_over = run.is_over(seconds)
    run.send(number, whom)
    what = f"sends {number.name} to {whom} of dvc repro {target} after {seconds:.1f} s{_late(was_over)}"
    if whom == "dvc" and run.is_over(_STOPPED_SECONDS):  # an orphan may still work while the next run does
        return what, [project.finish("dvc", "repro", target), run.wait()]
    return what, [run.wait()]


def stop_and_continue(project: ChaosProject, random: Random, target: str) -> Disturbed:
    """Stop a run as Ctrl-Z or a sleeping laptop does, and let it go on."""
    whom, seconds = random.choice(["all", "stage"]), random.uniform(0.5, _LONGEST_SECONDS)
    run = project.start("dvc", "repro", target)
    was_over = run.is_over(seconds)
    run.send(signal.SIGSTOP, whom)
    run.is_over(_STOPPED_SECONDS)
    run.send(signal.SIGCONT, whom)
    what = f"stops {whom} of dvc repro {target} after {seconds:.1f} s for {_STOPPED_SECONDS} s{_late(was_over)}"
    return what, [run.wait()]


def edit_meanwhile(project: ChaosProject, random: Random, target: str) -> Disturbed:
    """Edit the project while a run works."""
    action, seconds = random.choice(WHILE_RUNNING), random.uniform(0.5, _LONGEST_SECONDS)
    run = project.start("dvc", "repro", target)
    was_over = run.is_over(seconds)
    what = action(project, random)
    return f"{what}, {seconds:.1f} s after the start of dvc repro {target}{_late(was_over)}", [run.wait()]


def run_two(project: ChaosProject, random: Random, target: str) -> Disturbed:
    """Run something else at the same time: the same, a stage by itself, or upkeep of the caches."""
    python = ["python", "-m"]
    other = random.choice([
        ["dvc", "repro", target],
        ["dvc", "gc", "--workspace", "--force"],
        ["dvc", "checkout"],
        [*python, "stages.extract"],
        [*python, "headstart", "store", "verify"],
        [*python, "headstart", "store", "gc", "--delete"],
        [*python, "headstart", "store", "prune", "--unused-days", "0"],
    ])  # fmt: skip
    seconds = random.uniform(0, _LONGEST_SECONDS / 2)
    first = project.start("dvc", "repro", target)
    first.is_over(seconds)
    second = project.start(*other)
    what = f"runs {' '.join(other)} {seconds:.1f} s after the start of dvc repro {target}"
    return what, [first.wait(), second.wait()]


def extract_twice(project: ChaosProject, random: Random, target: str) -> Disturbed:  # noqa: ARG001 - a disturbance
    """Run the stage `extract` twice at once, without DVC, with a store that lacks rows."""
    for shard in project.files(".cache/embeddings/*/[0-9a-f]*.safetensors")[:1]:
        shard.unlink()
    first = project.start("python", "-m", "stages.extract")
    first.is_over(random.uniform(0, 1))
    second = project.start("python", "-m", "stages.extract")
    return "runs python -m stages.extract twice at once", [first.wait(), second.wait()]


def limit_files(project: ChaosProject, random: Random, target: str) -> Disturbed:
    """Let no process write a file beyond a size, which is how a quota or a full disk looks."""
    num_bytes = random.choice([1_000, 10_000, 100_000, 1_000_000])
    run = project.start("dvc", "repro", target, max_file_bytes=num_bytes)
    return f"runs dvc repro {target}, with files of at most {num_bytes} bytes", [run.wait()]


def fill_disk(project: ChaosProject, random: Random, target: str) -> Disturbed:
    """Fill the small disk on which the project lies, and run."""
    left = random.choice([0, 10_000, 100_000, 1_000_000])
    ballast = project.root.parent / "ballast"
    with ballast.open("wb") as file:
        file.truncate(0)
        _write_zeros(ballast, shutil.disk_usage(ballast.parent).free - left)
    try:
        return f"runs dvc repro {target} on a disk with {left} free bytes", [project.finish("dvc", "repro", target)]
    finally:
        ballast.unlink()


def shift_clock(project: ChaosProject, random: Random, target: str) -> Disturbed:
    """Run with a clock that differs from that of the disk."""
    days = random.choice([-3000, -1, 1, 3000])
    site = project.root.parent / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_CLOCK)
    extra = {"PYTHONPATH": str(site), "CHAOS_CLOCK": str(days * _DAY_SECONDS)}
    return f"runs dvc repro {target} with a clock off by {days} days", [
        project.start("dvc", "repro", target, extra=extra).wait()
    ]


# How often each is drawn.
DISTURBANCES: Mapping[Disturbance, int] = {
    kill: 6,
    stop_and_continue: 1,
    edit_meanwhile: 5,
    run_two: 3,
    extract_twice: 2,
    limit_files: 2,
    fill_disk: 3,
    shift_clock: 2,
}


def _late(was_over: bool) -> str:
    return " (it was over)" if was_over else ""


def _write_zeros(path: Path, num_bytes: int) -> None:
    with path.open("wb") as file:
        while num_bytes > 0:
            num_bytes -= file.write(bytes(min(num_bytes, 2**20)))
