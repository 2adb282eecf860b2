"""Decoding into buffers: threads fill one batch of pixels after the other, each image in its place.

Nothing is handed over image by image. With many threads, a thread that takes each image from the others waits for
Python's lock each time, and was the limit of a fast GPU.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from headstart.tables.index import IndexRow
from stages.extract.buffers import Buffer


@dataclass
class DecodedBatch:
    """A few rows and their pixels.

    Attributes:
        rows: Rows of the index.
        buffer: Buffer that has the pixels of the rows at its first places.
        num_left: Rows whose pixels are not there yet.
        errors: Errors of rows that could not be decoded, by their place in the batch.
    """

    rows: Sequence[IndexRow]
    buffer: Buffer
    num_left: int
    errors: dict[int, BaseException] = field(default_factory=dict)


class DecodedBatches:
    """Gives batches in the order of the rows, while threads decode the next ones. A context manager.

    Each image is decoded by the next thread that is free. A thread that would begin a batch waits until a buffer is
    free for it.

    Args:
        rows: Rows of the index.
        buffers: At least one, each for the pixels of a batch.
        size: Rows in a batch, but for the last.
        num_threads: Number of threads.
    """

    def __init__(
        self,
        rows: Sequence[IndexRow],
        buffers: Sequence[Buffer],
        size: int,
        num_threads: int,
    ) -> None:
        self._rows, self._size, self._free = rows, size, deque(buffers)
        self._next, self._stopped = 0, False  # the next row to decode
        self._batches: deque[DecodedBatch] = deque()  # those that were begun and not given
        lock = threading.Lock()
        self._may_begin, self._may_give = threading.Condition(lock), threading.Condition(lock)
        self._threads = [threading.Thread(target=self._work, name="decoder") for _ in range(num_threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._may_begin:
            self._stopped = True
            self._may_begin.notify_all()
        for thread in self._threads:
            thread.join()

    def __iter__(self) -> Iterator[DecodedBatch]:
        """Give each batch as soon as all its pixels are there.

        Raises:
            Exception: The error of the first row of a batch that could not be decoded. All batches before it have been
                given.
        """
        for _ in range(0, len(self._rows), self._size):
            with self._may_give:
                self._may_give.wait_for(lambda: self._batches and not self._batches[0].num_left)
                batch = self._batches.popleft()
            if batch.errors:
                raise batch.errors[min(batch.errors)]
            yield batch

    def release(self, batch: DecodedBatch) -> None:
        """Let a batch's buffer be filled again."""
        batch.buffer.clear()
        with self._may_begin:
            self._free.append(batch.buffer)
            self._may_begin.notify_all()

    def _work(self) -> None:
        while (turn := self._take_turn()) is not None:
            batch, place = turn
            try:
                batch.buffer.put(place, batch.rows[place])
            except BaseException as error:  # noqa: BLE001 - raised where the batch is given
                batch.errors[place] = error
            with self._may_give:
                batch.num_left -= 1
                if not batch.num_left:
                    self._may_give.notify()

    def _take_turn(self) -> tuple[DecodedBatch, int] | None:
        """Return the batch and the place of the next row; None if there is no more to do."""
        with self._may_begin:
            self._may_begin.wait_for(self._is_decided)
            if self._stopped or self._next == len(self._rows):
                return None
            place = self._next % self._size
            if place == 0:
                part, buffer = self._rows[self._next : self._next + self._size], self._free.popleft()
                self._newest = DecodedBatch(part, buffer, len(part))
                self._batches.append(self._newest)
            self._next += 1
            return self._newest, place

    def _is_decided(self) -> bool:
        """Return whether a thread that asks for its turn need not wait."""
        begins = self._next % self._size == 0
        return self._stopped or self._next == len(self._rows) or not begins or bool(self._free)
