"""The clock: how long each step of the work took, over all threads, which one holds the others up; and the memory."""

import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Clock:
    """Adds up seconds by step, from any thread.

    Attributes:
        seconds: For each step the sum over all threads.
    """

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "decode": 0.0, "forward": 0.0, "write": 0.0}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Count the seconds of a block towards a step."""
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[step] += time.monotonic() - start

    def bottleneck(self, num_parallel: Mapping[str, int]) -> str:
        """Return the step that would take longest with the others for free.

        Args:
            num_parallel: How many threads may be at a step at once; 1 where it says nothing.
        """
        return max(self.seconds, key=lambda step: self.seconds[step] / num_parallel.get(step, 1))


def peak_memory_bytes() -> int:
    """Return the most memory that this process has had in RAM so far, libraries included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
