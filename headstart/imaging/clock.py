"""The clock: the seconds of each step, summed over all threads, the bottleneck of a run, and its peak memory."""

import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Clock:
    """Adds up seconds by step. Thread-safe.

    Attributes:
        seconds: Seconds of each step, summed over all threads.
    """

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "decode": 0.0, "forward": 0.0, "write": 0.0}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Add the seconds that a block takes to a step.

        Args:
            step: `read`, `decode`, `forward` or `write`.
        """
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[step] += time.monotonic() - start

    def bottleneck(self, num_parallel: Mapping[str, int]) -> str:
        """Return the step that would take longest if the others took no time.

        Args:
            num_parallel: Number of threads that may run each step at once. A step that is missing here has one.
        """
        return max(self.seconds, key=lambda step: self.seconds[step] / num_parallel.get(step, 1))


def peak_memory_bytes() -> int:
    """Return the largest number of bytes of RAM that this process has used so far, libraries included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
