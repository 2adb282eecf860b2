"""Progress of long work: a bar on a terminal, a few lines in a log."""

import sys
import threading
import time
from types import TracebackType

from tqdm import tqdm

LOG_EVERY_SECONDS = 15.0
_REFRESH_SECONDS = 1.0


class Progress:
    """Shows the number of finished units, the rate and the time left, on standard error.

    On a terminal it is a live bar. Elsewhere it prints one line every `LOG_EVERY_SECONDS`, so logs stay short. The time
    goes on also while a unit takes long, so that nobody takes the program for dead.

    Args:
        stage: Name at the beginning of every line.
        total: Number of units; None if unknown.
        unit: Name of the unit, such as `image`, or `B` for bytes (shown in KB, MB, ...).
    """

    def __init__(self, stage: str, total: int | None, unit: str) -> None:
        self._live = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc=stage,
            unit=f" {unit}" if unit != "B" else unit,
            unit_scale=unit == "B",
            disable=not self._live,
            dynamic_ncols=True,
        )
        self._stage, self._total, self._unit = stage, total, unit
        self._done, self._start = 0, time.monotonic()
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._ticker.start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the bar."""
        self._closed.set()
        self._ticker.join()
        self._bar.close()

    def advance(self, count: int) -> None:
        """Add `count` finished units."""
        self._done += count
        self._bar.update(count)

    def _tick(self) -> None:
        while not self._closed.wait(_REFRESH_SECONDS if self._live else LOG_EVERY_SECONDS):
            if self._live:
                self._bar.refresh()
            else:
                seconds, is_bytes = time.monotonic() - self._start, self._unit == "B"
                meter = tqdm.format_meter(
                    self._done, self._total or 0, seconds, ncols=0, unit=self._unit, unit_scale=is_bytes
                )
                print(f"{self._stage}: {meter}", file=sys.stderr, flush=True)
