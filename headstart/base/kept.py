"""Kept files: results of slow work, each under a key of all that it depends on. They may be deleted at any time.

A line with the key and the sha256 of the content, each in 64 hex digits, is followed by the content.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from headstart.base.files import atomic_path, read_bytes

_HEAD = b"([0-9a-f]{64}) ([0-9a-f]{64})"


def read_kept(path: Path, key: str, asked_by: str) -> bytes | None:
    """Return the content that `write_kept` wrote under a key; None if there is none.

    A file that is damaged or cannot be read is named in a warning and is as good as none: it costs only time.

    Args:
        path: Path of the file.
        key: sha256 of all that the content depends on. A file with another key is not used.
        asked_by: Name of the stage, for the warning.
    """
    try:
        head, _, content = read_bytes(path).partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    else:
        found = re.fullmatch(_HEAD, head)
        if found and found[1] != key.encode():
            return None
        if found and found[2] == _digest(content):
            return content
        reason = "is damaged (its checksum is wrong)"
    warn_damaged(path, reason, asked_by)
    return None


def write_kept(path: Path, key: str, *parts: bytes | memoryview) -> None:
    """Replace a kept file, whole or not at all.

    Args:
        path: Path of the file.
        key: sha256 of all that the content depends on.
        parts: The content.

    Raises:
        OSError: The file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(f"{key} ".encode() + _digest(*parts) + b"\n")
        for part in parts:
            file.write(part)


def try_to_write(path: Path, write: Callable[[], None], asked_by: str) -> None:
    """Call a function that writes a file which may be missing. If it cannot be written, say so and go on."""
    try:
        write()
    except OSError as error:
        print(f"{asked_by}: WARNING: {path}: cannot be written ({error.strerror}), so it is not kept", flush=True)


def warn_damaged(path: Path, reason: str, asked_by: str) -> None:
    """Name a kept file that is not used."""
    print(f"{asked_by}: WARNING: {path} {reason}; it is made anew, which takes longer", flush=True)


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()
