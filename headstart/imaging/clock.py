"""The clock: seconds of each step over all threads, the bottleneck among the steps, and the peak memory."""

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
        """Add the seconds of a block to a step."""
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[step] += time.monotonic() - start

    def bottleneck(self, num_parallel: Mapping[str, int]) -> str:
        """Return the step that would take longest if the others took no time.

        Args:
            num_parallel: Number of threads that may run a step at once; 1 for a step that is not named.
        """
        return max(self.seconds, key=lambda step: self.seconds[step] / num_parallel.get(step, 1))


def peak_memory_bytes() -> int:
    """Return the peak memory of this process in RAM so far, in bytes, libraries included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
