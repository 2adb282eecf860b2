"""Sources: the images that somebody names: files, folders, patterns, lists and archives, in the order of the input."""

import glob
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NoReturn

from headstart.base.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LIST = "-"
# A file of more is no photo; a member of an archive may claim any length and unpack to more.
MAX_FILE_BYTES = 2**30
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


class SourceError(Exception):
    """This image cannot be read; the message is the reason, in a few words."""


@dataclass(frozen=True)
class Source:
    """One image, not yet read.

    Attributes:
        name: As it is shown: the file's path, or `<archive>/<member>`.
        path: Of the file, or of the archive.
        member: Position in the archive; None for a file.
    """

    name: str
    path: Path
    member: int | None = None


@dataclass(frozen=True)
class Loaded:
    """A source that its reader has dealt with as far as its order demands.

    Attributes:
        name: Of the source.
        path: To be read by whoever takes it; None where `data` or `problem` says all.
        data: The bytes of an archive's member.
        problem: Why there are none.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None
    problem: str = ""

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises:
            SourceError: It cannot be read.
        """
        if self.problem:
            raise SourceError(self.problem)
        return read_file(self.path) if self.path is not None else self.data or b""


def find_sources(inputs: Sequence[str], list_file: IO[bytes]) -> list[Source]:
    """Return the images behind the words of a command line.

    A folder gives the images below it, by path, but for hidden ones; an archive its images, as they lie in it. A file
    that is named by itself is taken whatever its name ends in.

    Args:
        inputs: Paths, patterns (`*`, `?`, `[...]`, `**`), or `-` for a list of paths, one a line (or divided by NUL).
        list_file: Where `-` reads.

    Raises:
        DataError: There is no such file, a pattern fits none, a folder or archive has no image, or an archive cannot
            be read.
    """
    found: list[Source] = []
    for word in inputs:
        if word == LIST:
            found += [Source(name, Path(name)) for name in _listed(list_file.read())]
        elif os.path.lexists(word):
            found += _behind(Path(word))
        elif glob.has_magic(word):
            paths = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - a pattern may be absolute
            if not paths:
                raise DataError(f"{word}: the pattern fits no file")
            for path in paths:
                found += _behind(Path(path))
        else:
            raise DataError(f"{word}: there is no such file, folder or archive")
    if not found:
        raise DataError("the list of images is empty")
    return found


def load_each(sources: Sequence[Source]) -> Iterator[Loaded]:
    """Give each source; members of archives with their bytes, read one after the other as an archive wants it.

    Args:
        sources: Those of one archive in the archive's order, one behind the other.
    """
    position = 0
    while position < len(sources):
        source = sources[position]
        if source.member is None:
            yield Loaded(source.name, path=source.path)
            position += 1
            continue
        end = position
        while end < len(sources) and sources[end].path == source.path and sources[end].member is not None:
            if end > position and (sources[end].member or 0) <= (sources[end - 1].member or 0):
                break  # the same archive was named twice
            end += 1
        yield from _load_members(source.path, sources[position:end])
        position = end


def read_file(path: Path) -> bytes:
    """Return a regular file's bytes; never waits for a pipe.

    Raises:
        SourceError: It is none, cannot be read, or is too long.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise SourceError("not a regular file")
            if found.st_size > MAX_FILE_BYTES:
                raise SourceError(f"{found.st_size} bytes; at most {MAX_FILE_BYTES} are read")
            return file.read()
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in a name
        raise SourceError(f"cannot be read: {error}") from error


def _listed(data: bytes) -> list[str]:
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(part) for part in parts if part]


def _behind(path: Path) -> list[Source]:
    name = path.name.lower()
    if path.is_dir():
        found = [Source(str(inner), inner) for inner in _below(path)]
        what = "the folder"
    elif path.is_file() and name.endswith((".zip", *_TAR_SUFFIXES)):
        with _archive(path) as members:
            found = [
                Source(f"{path}/{member.removeprefix('./')}", path, number)
                for number, (member, _) in enumerate(members)
                if _is_image(member)
            ]
        what = "the archive"
    else:
        return [Source(str(path), path)]
    if not found:
        raise DataError(f"{path}: {what} has no image ({', '.join(SUFFIXES)})")
    return found


def _below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error

    for inside, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(inside) / name for name in sorted(names) if _is_image(name))


def _is_image(name: str) -> bool:
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in name.split("/"))
    return name.lower().endswith(SUFFIXES) and not hidden


Member = tuple[str, Callable[[], bytes]]


@contextmanager
def _archive(path: Path) -> Iterator[Iterator[Member]]:
    """Give an archive's members that are files: name and what reads it, in their order. Nothing is written to disk."""
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as opened:
                yield ((info.filename, partial(_read_zipped, opened, info)) for info in opened.infolist())
        else:
            with tarfile.open(path) as tar:
                yield _tarred(tar)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path}: is no archive that can be read ({error or type(error).__name__})") from error


def _read_zipped(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with opened.open(info) as file:
            return _bounded(file)
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or compressed in a way that Python does not know
        raise SourceError(f"cannot be read: {error}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise SourceError(f"is damaged in the archive: {error or type(error).__name__}") from error


def _tarred(tar: tarfile.TarFile) -> Iterator[Member]:
    for info in tar:
        if info.isfile() or info.islnk() or info.issym():
            yield info.name, partial(_read_tarred, tar, info)
    # Python takes a damaged header for the end.
    assert tar.fileobj is not None, "open"
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"cut or damaged at byte {tar.offset}: its end mark is not there")


def _read_tarred(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    try:
        file = tar.extractfile(info)  # of a link what it leads to, inside the archive
    except (KeyError, RecursionError) as error:
        raise SourceError(f"is a link to {info.linkname!r}, which is not in the archive") from error
    if file is None:
        raise SourceError(f"is a link to {info.linkname!r}, which is no file")
    return _bounded(file)


def _bounded(file: IO[bytes]) -> bytes:
    """Read at most the limit, whatever length the archive claims."""
    data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise SourceError(f"more than {MAX_FILE_BYTES} bytes; so many are read at most")
    return data


def _load_members(path: Path, sources: Sequence[Source]) -> Iterator[Loaded]:
    wanted = {source.member: source for source in sources}
    with _archive(path) as members:
        for number, (_, read) in enumerate(members):
            source = wanted.pop(number, None)
            if source is not None:
                try:
                    yield Loaded(source.name, data=read())
                except SourceError as error:
                    yield Loaded(source.name, problem=str(error))
    for source in wanted.values():
        yield Loaded(source.name, problem="is gone from the archive")
