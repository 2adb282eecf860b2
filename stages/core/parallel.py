"""Parallel work: a function over many items in threads, results in order, few of them waiting."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
