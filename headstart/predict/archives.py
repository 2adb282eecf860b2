"""Archives: zip and tar files, whose members are read in memory. Nothing is unpacked to disk.

To support another kind of archive, write a function like `_open_zip` and add its suffixes to `ARCHIVES`.
"""

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from headstart.base.errors import DataError
from headstart.imaging.reader import MemoryBudget
from headstart.predict.image_file import HeldBytes, ImageReadError, read_member

# Name of a member, and the function that reads its bytes within a budget. That function raises ImageReadError.
Member = tuple[str, Callable[[MemoryBudget], HeldBytes]]
# What an archive that is cut or damaged raises while it is opened or listed.
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError),
    RecursionError,  # a chain of headers that each announce another one
)
_READ_AT_ONCE = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_MOST_HEADER_BYTES = 2**20


def is_archive(path: Path) -> bool:
    """Return whether a file's name has the suffix of an archive."""
    return path.name.lower().endswith(tuple(ARCHIVES))


@contextmanager
def open_archive(path: Path) -> Iterator[Iterator[Member]]:
    """Open an archive and give an iterator over its members, in the archive's order. Folders are left out.

    Args:
        path: Path of a file for which `is_archive` is true.

    Raises:
        DataError: The archive is cut, damaged, or not an archive.
    """
    open_kind = next(function for suffix, function in ARCHIVES.items() if path.name.lower().endswith(suffix))
    try:
        with open_kind(path) as members:
            yield members
    except _DAMAGE as error:
        raise DataError(f"{path}: cannot be read as an archive ({error or type(error).__name__})") from error


@contextmanager
def _open_zip(path: Path) -> Iterator[Iterator[Member]]:
    with zipfile.ZipFile(path) as archive:
        yield ((info.filename, partial(_read_zip_member, archive, info)) for info in archive.infolist())


def _read_zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: MemoryBudget) -> HeldBytes:
    try:
        with archive.open(info) as stream:
            return read_member(stream, info.file_size, budget)
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or a compression that Python does not support
        raise ImageReadError(f"cannot be read: {error}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise ImageReadError(f"is damaged in the archive: {error or type(error).__name__}") from error


class _TarInfo(tarfile.TarInfo):
    """A header of a tar. One with a long name or attributes is read at once, so it must not claim any size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """See `tarfile.TarInfo.frombuf`."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _READ_AT_ONCE and header.size > _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {header.size} bytes; at most {_MOST_HEADER_BYTES} are read")
        return header


@contextmanager
def _open_tar(path: Path) -> Iterator[Iterator[Member]]:
    with tarfile.open(path, tarinfo=_TarInfo) as archive:
        yield _tar_members(archive)


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.isfile() or info.islnk() or info.issym():
            yield info.name, partial(_read_tar_member, archive, info)
    # Python treats a damaged header as the end of the archive, so look for the end mark.
    assert archive.fileobj is not None, "the archive is open"
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"cut or damaged at byte {archive.offset}: the end mark is missing")


def _read_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo, budget: MemoryBudget) -> HeldBytes:
    try:
        stream = archive.extractfile(info)  # follows links, inside the archive only
    except (KeyError, RecursionError) as error:
        raise ImageReadError(f"is a link to {info.linkname!r}, which is not in the archive") from error
    if stream is None:
        raise ImageReadError(f"is a link to {info.linkname!r}, which is not a file")
    num_bytes = stream.seek(0, os.SEEK_END)  # of the file that a link leads to
    stream.seek(0)
    return read_member(stream, num_bytes, budget)


# Suffixes in lower case, and the function that opens the archives that have them.
ARCHIVES: dict[str, Callable[[Path], AbstractContextManager[Iterator[Member]]]] = {
    ".zip": _open_zip,
    ".tar": _open_tar,
    ".tar.gz": _open_tar,
    ".tgz": _open_tar,
    ".tar.bz2": _open_tar,
    ".tbz2": _open_tar,
    ".tar.xz": _open_tar,
    ".txz": _open_tar,
}
