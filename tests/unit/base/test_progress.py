"""Progress goes on where work goes on, on a terminal and in a log."""

import io
import time

import pytest

from headstart.base import progress
from headstart.base.progress import Progress


class Screen(io.StringIO):
    """A terminal that keeps what was printed."""

    def isatty(self) -> bool:
        """Say that this is a terminal."""
        return True


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show progress a hundred times a second."""
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 0.01)


def wait_for(words: str, screen: io.StringIO) -> None:
    """Wait until some words were printed; a test that waits for ever is stopped by its time limit."""
    while words not in screen.getvalue():
        time.sleep(0.005)


@pytest.mark.parametrize("kind", [io.StringIO, Screen])
def test_progress_moves_while_one_unit_takes_long(monkeypatch: pytest.MonkeyPatch, kind: type[io.StringIO]) -> None:
    """Lines go on although no unit is finished, and they count those that are; after the end nothing is printed."""
    screen = kind()
    monkeypatch.setattr("sys.stderr", screen)
    with Progress("stage", 3, "fit") as shown:
        wait_for("0/3", screen)
        length = len(screen.getvalue())
        while len(screen.getvalue()) == length:
            time.sleep(0.005)
        shown.advance(2)
        wait_for("2/3", screen)
    length = len(screen.getvalue())
    time.sleep(0.05)

    assert len(screen.getvalue()) == length


def test_a_log_of_short_work_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that ends before the first line is due prints nothing into a log."""
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 60.0)
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    with Progress("stage", 3, "fit") as shown:
        shown.advance(3)

    assert screen.getvalue() == ""
