"""Image files: reading their bytes, with an upper limit on the size and, in archives, on the memory of all."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from headstart.imaging.reader import MemoryBudget

# No photo is larger.
MAX_FILE_BYTES = 2**30
# Members of archives are unpacked in memory, and hardly a photo is larger.
MAX_MEMBER_BYTES = 2**28
_PIECE_BYTES = 2**20


class ImageReadError(Exception):
    """The bytes of an image cannot be read; the message gives the reason in a few words."""


class HeldBytes:
    """The bytes of a member of an archive. They hold memory of a budget until they have been used, once.

    Args:
        data: The bytes.
        memory: What gives the memory back when it is closed.
    """

    def __init__(self, data: bytes, memory: ExitStack) -> None:
        self._data, self._memory = data, memory

    def __len__(self) -> int:
        return len(self._data)

    @contextmanager
    def used(self) -> Iterator[bytes]:
        """Give the bytes. At the end of the block they are gone."""
        try:
            yield self._data
        finally:
            self._data = b""
            self._memory.close()


def read_file(path: Path) -> bytes:
    """Return the bytes of a regular file; never waits for the writer of a pipe.

    Raises:
        ImageReadError: The file cannot be read, is not a regular file, or is larger than `MAX_FILE_BYTES`.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageReadError("not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise ImageReadError(f"the file has {status.st_size} bytes; at most {MAX_FILE_BYTES} are read")
            return file.read()
    except OSError as error:
        raise ImageReadError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # the path contains a NUL
        raise ImageReadError(f"cannot be read: {error}") from error


def read_member(stream: IO[bytes], num_bytes: int, budget: MemoryBudget) -> HeldBytes:
    """Return the bytes of a member of an archive, as soon as the budget leaves memory for them.

    Args:
        stream: Stream of the member.
        num_bytes: Size that the archive claims.
        budget: Budget of the bytes of all members.

    Raises:
        ImageReadError: The archive claims more than `MAX_MEMBER_BYTES`, and nothing was read; or the stream gives more
            than the archive claims.
    """
    if num_bytes > MAX_MEMBER_BYTES:
        raise ImageReadError(f"the file has {num_bytes} bytes; at most {MAX_MEMBER_BYTES} are read from an archive")
    with ExitStack() as memory:
        memory.enter_context(budget.hold(num_bytes))
        found = io.BytesIO()  # joining pieces would take the memory twice
        while piece := stream.read(_PIECE_BYTES):
            found.write(piece)
            if found.tell() > num_bytes:
                raise ImageReadError(f"is damaged in the archive: has more than the {num_bytes} bytes that it claims")
        return HeldBytes(found.getvalue(), memory.pop_all())
