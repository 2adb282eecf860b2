"""Progress of long work: a bar on a terminal, a few lines in a log."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

LOG_EVERY_SECONDS = 15.0


class Progress:
    """Shows the number of finished units, the rate and the time left, on standard error.

    On a terminal it is a live bar. Elsewhere it prints at most one line every `LOG_EVERY_SECONDS`, so logs stay short.

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
        self._last_line = self._start

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the bar."""
        self._bar.close()

    def advance(self, count: int) -> None:
        """Add `count` finished units."""
        self._done += count
        self._bar.update(count)
        now = time.monotonic()
        if not self._live and now - self._last_line >= LOG_EVERY_SECONDS:
            self._last_line = now
            meter = tqdm.format_meter(
                self._done, self._total or 0, now - self._start, ncols=0, unit=self._unit, unit_scale=self._unit == "B"
            )
            print(f"{self._stage}: {meter}", file=sys.stderr, flush=True)
