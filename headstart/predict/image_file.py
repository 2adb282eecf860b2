"""Image files: reading their bytes, with an upper limit on the size."""

import os
import stat
from pathlib import Path
from typing import IO

# No photo is larger. A member of an archive may claim any size and unpack to more.
MAX_FILE_BYTES = 2**30


class ImageReadError(Exception):
    """The bytes of an image cannot be read; the message gives the reason in a few words."""


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


def read_stream(stream: IO[bytes]) -> bytes:
    """Return all bytes of a stream, whatever size its archive claims.

    Raises:
        ImageReadError: The stream gives more than `MAX_FILE_BYTES`.
    """
    data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageReadError(f"the file has more than {MAX_FILE_BYTES} bytes, which is the limit")
    return data
