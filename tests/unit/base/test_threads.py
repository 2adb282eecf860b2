"""Parallel work gives results and errors in the order of the items, with few items in memory."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from headstart.base.threads import in_order, one_blas_thread


@given(st.lists(st.integers()), st.integers(1, 8))
def test_results_come_in_the_order_of_the_items(items: list[int], num_threads: int) -> None:
    """The results are those of a plain loop, however long each item takes."""
    assert list(in_order(lambda item: item + 1, items, num_threads)) == [item + 1 for item in items]


def test_items_are_taken_only_when_their_turn_is_near() -> None:
    """While the first result is in use, only a few further items are taken and computed."""
    taken = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_order(lambda item: item, items(), num_threads=2)
    assert next(results) == 0
    time.sleep(0.05)
    results.close()

    assert len(taken) <= 6


def test_an_error_comes_after_the_results_before_it() -> None:
    """An error is raised after the results of all items before it."""

    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    done: list[int] = []
    results = in_order(work, range(10), num_threads=4)
    with pytest.raises(ValueError, match="three"):
        done.extend(results)

    assert done == [0, 1, 2]


def test_threads_work_at_the_same_time() -> None:
    """Two items that wait for each other are both computed, so items really run in parallel."""
    barrier = threading.Barrier(2, timeout=20)

    assert len(list(in_order(lambda _: barrier.wait(), range(2), num_threads=2))) == 2


def blas_threads() -> list[int]:
    """Return the number of threads of each BLAS."""
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_the_last_exit_restores_the_threads_of_blas() -> None:
    """The number of threads is restored even if contexts overlap without nesting; other threads change nothing."""
    np.ones(2) @ np.ones(2)  # loads BLAS
    with threadpool_limits(limits=3, user_api="blas"):
        before = blas_threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == before

        def elsewhere() -> None:
            with one_blas_thread():
                inside.extend(blas_threads())

        inside: list[int] = []
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        assert inside == blas_threads() == before
