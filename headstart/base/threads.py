"""Threads: a function over many items, computed by threads, with results in order and few of them waiting."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")
_held: list[threadpool_limits] = []  # the limit, once for each block that is entered


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Limit BLAS to one thread, because our own threads fill the cores. The last exit restores the previous limit.

    It works in the main thread and does nothing in others. The limit belongs to the process, and OpenBLAS takes it from
    the main thread only: another thread could set it but not restore it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _held.append(_held[0] if _held else threadpool_limits(limits=1, user_api="blas"))
    try:
        yield
    finally:
        limit = _held.pop()
        if not _held:
            limit.restore_original_limits()


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], num_threads: int, num_ahead: int = 0
) -> Generator[Result, None, None]:
    """Give `function(item)` for each item, in order, computed by threads.

    Items are taken only shortly before their turn, so that neither items nor results pile up in memory. An error is
    raised in place of its result, after all results before it.

    Args:
        function: Called in threads.
        items: Taken in the thread of the caller.
        num_threads: Number of threads.
        num_ahead: Smallest number of items that are computed before their turn; at least 3 for each thread.
    """
    rest, num_pending = iter(items), max(3 * num_threads, num_ahead)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            while True:
                # A result that is early waits for those before it.
                pending.extend(pool.submit(function, item) for item in islice(rest, num_pending - len(pending)))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
