"""Threads: a function is applied to many items in parallel, with results in order and in bounded memory."""

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
_held: list[threadpool_limits] = []  # the one limit, once for each open `with` block


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Limit BLAS to one thread, because our own threads fill the cores. The last exit restores the previous limit.

    In threads other than the main thread it does nothing: they could set the limit, which holds for the whole process,
    but OpenBLAS would let only the main thread restore it.
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

    Items are taken only shortly before their turn, so that neither items nor results pile up in memory. If the function
    raises an error for an item, it is raised after the results of all items before it.

    Args:
        function: Called in threads.
        items: Items, which the thread of the caller iterates over.
        num_threads: Number of threads.
        num_ahead: Number of items that may be computed before their turn. It is at least 3 for each thread.
    """
    rest, num_pending = iter(items), max(3 * num_threads, num_ahead)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            while True:
                # A result that is ready early waits here for the results before it.
                pending.extend(pool.submit(function, item) for item in islice(rest, num_pending - len(pending)))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
