"""Parallel work: a function over many items in threads, results in order, few of them waiting."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


class OneBlasThread:
    """For a block, products of matrices take one thread each: ours fill the cores, and theirs would wait for them.

    The number is the process's; blocks may overlap, in any threads, and the last one to end sets it back.
    """

    def __init__(self) -> None:
        self._lock, self._num_open = threading.Lock(), 0
        self._limits = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._num_open:
                self._limits.enter_context(threadpool_limits(limits=1, user_api="blas"))
            self._num_open += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._num_open -= 1
            if not self._num_open:
                self._limits.close()


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
