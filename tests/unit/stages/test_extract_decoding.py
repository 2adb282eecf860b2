"""Decoding into buffers: batches come in order, in few buffers, and nobody waits for a batch that never comes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headstart.tables.index import IndexRow
from stages.extract.buffers import Buffer
from stages.extract.decoding import DecodedBatches

Decode = Callable[[Any], NDArray[np.uint8]]


def picture(number: int) -> NDArray[np.uint8]:
    """Return two views of one pixel, which say which row they are of."""
    return np.full((2, 1, 1, 3), number, dtype=np.uint8)


class Pixels(Buffer):
    """A buffer of two views for each row."""

    def __init__(self, decode: Decode, size: int) -> None:
        self._decode, self._pixels = decode, np.empty((2 * size, 1, 1, 3), dtype=np.uint8)

    def put(self, place: int, row: IndexRow) -> None:
        """Put what was decoded in its place."""
        self._pixels[2 * place : 2 * place + 2] = self._decode(row)

    def pictures(self, num: int) -> NDArray[np.uint8]:
        """Return the views of the first rows."""
        return self._pixels[: 2 * num]

    def clear(self) -> None:
        """Blacken everything, so that a buffer that is cleared too early shows."""
        self._pixels[:] = 255


@contextmanager
def decoded(num_rows: int, decode: Decode, num_buffers: int, size: int, num_threads: int) -> Iterator[DecodedBatches]:
    """Decode numbers as rows."""
    rows: Any = list(range(num_rows))
    buffers = [Pixels(decode, size) for _ in range(num_buffers)]
    with DecodedBatches(rows, buffers, size, num_threads) as batches:
        yield batches


@given(st.integers(0, 40), st.integers(1, 4), st.integers(1, 9), st.integers(1, 6))
@settings(deadline=None)
def test_batches_are_in_order_and_whole(num_rows: int, num_buffers: int, size: int, num_threads: int) -> None:
    """For any numbers of rows, buffers and threads, each row's views stand in its place when its batch is given."""
    found: list[int] = []
    with decoded(num_rows, picture, num_buffers, size, num_threads) as batches:
        for batch in batches:
            pixels: Any = batch.buffer.pictures(len(batch.rows))
            found += pixels[::2, 0, 0, 0].tolist()
            assert np.array_equal(pixels[::2], pixels[1::2])
            batches.release(batch)
    assert found == list(range(num_rows))


def test_no_more_is_decoded_than_the_buffers_hold() -> None:
    """While nobody releases a buffer, no row beyond the buffers is read."""
    begun: list[int] = []

    def decode(number: int) -> NDArray[np.uint8]:
        begun.append(number)
        return picture(number)

    with decoded(100, decode, 2, 5, 4) as batches:
        following = iter(batches)
        held = [next(following) for _ in range(2)]
        time.sleep(0.05)
        assert sorted(begun) == list(range(10))
        batches.release(held[0])
        next(following)
        assert sorted(begun)[-1] < 15


def test_all_threads_work_on_one_batch() -> None:
    """Four threads decode four images of a batch at once."""
    together = threading.Barrier(4)

    def decode(number: int) -> NDArray[np.uint8]:
        together.wait(20)
        return picture(number)

    with decoded(4, decode, 1, 4, 4) as batches:
        assert len(next(iter(batches)).rows) == 4


def test_the_first_error_of_a_batch_is_raised_in_its_turn() -> None:
    """The batches before it are given. Of several errors, that of the first row counts, whichever came first."""
    has_failed = threading.Event()

    def decode(number: int) -> NDArray[np.uint8]:
        if number == 6:
            assert has_failed.wait(20)
            time.sleep(0.01)
        if number in (6, 8):
            has_failed.set()
            raise ValueError(f"row {number}")
        return picture(number)

    given: list[int] = []
    with pytest.raises(ValueError, match="row 6"), decoded(20, decode, 4, 5, 3) as batches:
        for batch in batches:
            given += batch.rows  # type: ignore[arg-type]
            batches.release(batch)
    assert given == [0, 1, 2, 3, 4]


def test_threads_end_when_nobody_wants_more() -> None:
    """Also those that wait for a buffer."""
    before = threading.active_count()
    with decoded(100, picture, 1, 2, 5) as batches:
        next(iter(batches))
    assert threading.active_count() == before
