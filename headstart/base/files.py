"""Files: digests, and writing such that a file is either whole or does not exist."""

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


class NotRegularError(OSError):
    """There is something at a path that is no regular file, such as a pipe or a folder."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "not a regular file", path)


def check_regular(path: Path) -> None:
    """Raise if there is no regular file at a path. To open a pipe would wait for ever, and a device has no end.

    Raises:
        NotRegularError: There is something else at the path, or a link to something else.
        OSError: There is nothing, or it cannot be accessed.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotRegularError(str(path))


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        NotRegularError: There is something else at the path.
        OSError: The file cannot be read.
    """
    check_regular(path)
    return path.read_bytes()


def sha256_file(path: Path) -> str:
    """Return the sha256 of a regular file's bytes, as 64 lower-case hex digits, in constant memory.

    Raises:
        NotRegularError: There is something else at the path.
        OSError: The file cannot be read.
    """
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_digests(*paths: str) -> dict[str, str]:
    """Return the sha256 of modules of this project, by path. Keys of caches hold them: edited code has another key.

    Args:
        paths: Packages and modules, relative to the folder that holds `headstart`, such as `headstart/backbone` or
            `stages/head/fit.py`.
    """
    root, files = Path(__file__).parents[2], set[Path]()
    for path in paths:
        found = [root / path] if path.endswith(".py") else (root / path).rglob("*.py")
        files |= {file for file in found if not file.name.startswith(".")}  # editors keep such files beside a module
    return {file.relative_to(root).as_posix(): sha256_file(file) for file in sorted(files)}


def temporary_prefix(path: Path) -> str:
    """Return the beginning of the names of temporary files for `path`. They end in `.tmp`, which git ignores."""
    return f".{path.name}."


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`. On success the file is synced to disk and replaces `path`.

    On any failure the temporary file is removed and `path` does not change. A missing parent folder is created.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path), suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; results must be readable like other files
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_space(path: Path, num_bytes: int) -> None:
    """Raise if a file would not fit on the disk. Where the system cannot tell, do nothing.

    Args:
        path: Path of an empty file, which stays empty.
        num_bytes: Size that the file will have.

    Raises:
        OSError: It would not fit.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error
            finally:
                file.truncate(0)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_new_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. A file that exists already, for example from another process, is kept."""
    scratch = path.with_name(f"{temporary_prefix(path)}{uuid4().hex}.tmp")
    try:
        write_bytes(scratch, data)
        try:
            path.hardlink_to(scratch)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links (exFAT, some network shares): this is nearly as good
            if not path.exists():
                scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def canonical_json(content: Mapping[str, Any]) -> str:
    """Return JSON text that is equal whenever the content is equal, for hashing and comparing."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_json(content: Mapping[str, Any]) -> str:
    """Return the sha256 of `canonical_json`, 64 lower-case hex digits."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all. Equal content gives equal bytes: keys are sorted, the text is UTF-8.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`. On success it is renamed to `folder`; on any failure it is removed.

    Raises:
        FileExistsError: `folder` exists already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder}: exists already. Move it away first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=temporary_prefix(folder), suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)  # it can be read only by setting it
    os.umask(umask)
    return umask
