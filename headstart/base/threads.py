"""Parallel work: a function over many items in threads, results in order, few of them waiting."""

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
_held: list[threadpool_limits] = []  # the limit, once for each that is inside


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Hold BLAS to one thread, because our own fill the cores; behind the last that is inside the old number is back.

    For the main thread; in others it does nothing. The number is the process's, and OpenBLAS takes it from the main
    thread alone: what another one sets back stays as it was.
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

    An item is taken only when its turn is near, so that neither items nor results pile up in memory. An error comes
    up where its result would have, after all results before it.

    Args:
        function: Called in threads.
        items: Taken in the caller's thread.
        num_threads: That work.
        num_ahead: Least number of items that are worked on before their turn; 3 per thread are in any case.
    """
    rest, num_pending = iter(items), max(3 * num_threads, num_ahead)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            while True:
                # What is done early waits for what is before it.
                pending.extend(pool.submit(function, item) for item in islice(rest, num_pending - len(pending)))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
