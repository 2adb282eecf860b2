"""Rounds: in each round every contestant runs once, so that a noisy machine disturbs all of them alike."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def median_and_spread(seconds: list[float]) -> tuple[float, float]:
    """Return the median, and half the range as a fraction of the median."""
    median = statistics.median(seconds)
    return median, (max(seconds) - min(seconds)) / 2 / median


def take_turns(contestants: Mapping[str, Callable[[], float]], num_rounds: int) -> dict[str, list[float]]:
    """Run every contestant once per round.

    Args:
        contestants: What to run, by name. Each returns its own measure, such as images/s.
        num_rounds: Number of rounds.

    Returns:
        The measures of each contestant, by round.
    """
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(num_rounds):
        for name, run in contestants.items():
            results[name].append(run())
            print(f"  round {number + 1}: {name}: {results[name][-1]:.2f}", flush=True)
    return results


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def describe_ratios(results: Mapping[str, list[float]], rival: str) -> str:
    """Return a line per contestant: median, spread, and the median over the rounds of its ratio to the rival."""
    lines = []
    for name, values in results.items():
        median, spread = median_and_spread(values)
        ratio = statistics.median(mine / theirs for mine, theirs in zip(values, results[rival], strict=True))
        lines.append(f"  {name:<28} {median:9.2f} (+-{100 * spread:.0f} %)   {ratio:6.2f} x {rival}")
    return "\n".join(lines)


def machine() -> str:
    """Return the processor, cores, system and Python version of this machine, in one line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0] if models else cpu
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpu}, {num_cores} cores, {platform.system()}, Python {platform.python_version()}"
