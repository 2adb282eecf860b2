"""Files: digests, and writing so that a file is either whole or not there."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from stages.core.errors import TableError


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, as 64 lower-case hex digits, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_digests(*patterns: str) -> dict[str, str]:
    """Return the sha256 of each of our modules by its path below stages/, for keys of what our code made.

    Args:
        patterns: Of paths below stages/, such as `core/*.py`.
    """
    stages = Path(__file__).parents[1]
    files = sorted({file for pattern in patterns for file in stages.glob(pattern)})
    return {file.relative_to(stages).as_posix(): sha256_file(file) for file in files}


def temporary_prefix(path: Path) -> str:
    """Return how the names of temporary files for `path` begin; they end in `.tmp`, which git ignores."""
    return f".{path.name}."


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced to disk and takes `path`'s place.

    On any failure the temporary file is removed and `path` stays as it was. The parent folder is made if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path), suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; a result is as readable as any other file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_new_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; if one is there already, another process's for instance, that one stays."""
    scratch = path.with_name(f"{temporary_prefix(path)}{uuid4().hex}.tmp")
    try:
        write_bytes(scratch, data)
        try:
            path.hardlink_to(scratch)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links (exFAT, some network shares): nearly as good
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
    """Write JSON that is equal byte for byte whenever the content is equal (sorted keys, UTF-8)."""
    text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def write_metrics(path: Path, prefix: str, numbers: Mapping[str, Any]) -> None:
    """Write a metrics file whose keys all begin with `prefix`, floats rounded to 6 digits. DVC does not show lists.

    The prefix keeps the columns of `dvc exp show` short: two files that share a key get the path in front of it.
    """
    rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in numbers.items()}
    write_json(path, {prefix: rounded})


def read_metrics(path: Path, prefix: str, *names: str) -> dict[str, Any]:
    """Read what `write_metrics` wrote.

    Args:
        path: Of the file.
        prefix: That it was written with.
        names: Of numbers (or words) that it must hold.

    Raises:
        TableError: The file is missing, is not what was written, or lacks a name.
    """
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))[prefix]
    except FileNotFoundError as error:
        raise TableError(f"{path}: is missing. Run: dvc repro") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f'{path}: expected {{"{prefix}": {{name: number}}}} ({error}). Run: dvc repro') from error
    if not isinstance(numbers, dict):
        raise TableError(f'{path}: expected {{"{prefix}": {{name: number}}}}. Run: dvc repro')
    missing = [name for name in names if not isinstance(numbers.get(name), int | float | str)]
    if missing:
        raise TableError(f"{path}: {prefix} has no {', '.join(missing)}; found {sorted(numbers)}. Run: dvc repro")
    return numbers


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`, which takes its name on success and is removed on any failure.

    Raises:
        FileExistsError: `folder` is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; move it away first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=temporary_prefix(folder), suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)  # the only way to read it is to set it
    os.umask(umask)
    return umask
