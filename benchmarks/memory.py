"""Memory of a command and of the processes that it starts."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil


def memory_bytes(process: int) -> int:
    """Return the memory of a process and its children now. Memory that they share counts once."""
    try:
        family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
        return sum(each.memory_full_info().pss for each in family)
    except psutil.Error:  # the process has ended meanwhile
        return 0


def peak_bytes(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a command in a folder, without its output, and return its peak memory, sampled ten times a second."""
    peak = 0
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            peak = max(peak, memory_bytes(process.pid))
            time.sleep(0.1)
    return peak
