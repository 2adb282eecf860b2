"""Folders: where the images of a data set are. A folder lists its files and reads them by their paths."""

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.base.errors import DataError
from headstart.base.files import NotRegularError

# DVC ignores these names, by itself or because of .dvcignore. If they were listed, the index could depend on files that
# DVC does not see.
IGNORED = frozenset({".DS_Store", "Thumbs.db", "__pycache__", ".dvc", ".git", ".hg"})
# Size in bytes, and the times of the last change of content (mtime) and of inode (ctime), in ns. If an archive is
# unpacked over a file, size and mtime may stay the same, but ctime changes.
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """The files and the empty folders below a folder.

    Attributes:
        files: Stamp of each file, by its path below the folder, with `/`, in the order of the paths. The stamp is None
            if it is not a regular file or cannot be accessed.
        empty_folders: Paths of empty folders, sorted, without hidden ones. DVC does not see them.
    """

    files: Mapping[str, Stamp | None]
    empty_folders: Sequence[str]


@dataclass(frozen=True)
class Folder:
    """The folder of a data set. Nothing else lists or reads its files, so another kind of place needs the same methods.

    Attributes:
        root: Path of the folder.
    """

    root: Path

    def __str__(self) -> str:
        """Return the path, for messages."""
        return str(self.root)

    def list_files(self) -> Listing:
        """List every file below the folder, except those that DVC ignores.

        Raises:
            DataError: The folder is missing or is a file, or there is a link to a folder below it.
            OSError: A folder cannot be read.
        """
        if not self.root.is_dir():
            raise DataError(
                f"data.path: {self.root} is not a folder; expected a folder of images, in class folders or with a "
                "table (index.table). Correct data.path."
            )
        found: dict[str, Stamp | None] = {}
        empty: list[str] = []
        pending = [""]
        while pending:
            prefix = pending.pop()
            folders = _list_one(self.root, prefix, found)
            if folders is None:
                empty.append(prefix.removesuffix("/"))
            else:
                pending += folders
        shown = [path for path in sorted(empty) if path and not f"/{path}".count("/.")]
        return Listing({path: found[path] for path in sorted(found)}, shown)

    def has(self, path: str) -> bool:
        """Whether there is a regular file at a path below the folder."""
        return (self.root / path).is_file()

    def read(self, path: str) -> bytes:
        """Return the bytes of a file. It never waits for the writer of a pipe.

        Args:
            path: Path below the folder, with `/`.

        Raises:
            NotRegularError: There is something else at the path.
            OSError: The file cannot be read.
        """
        try:
            with os.fdopen(os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise NotRegularError(path)
                return file.readall()
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise NotRegularError(path) from error  # a socket
            raise


def open_source(data_path: str) -> Folder:
    """Return what `data.path` names: today always a folder."""
    return Folder(Path(data_path))


def _list_one(root: Path, prefix: str, found: dict[str, Stamp | None]) -> list[str] | None:
    """List one folder, add its files to `found`, and return the prefixes of its folders; None if it is empty."""
    folders, is_empty = [], True
    with os.scandir(f"{root}/{prefix}") as entries:
        for entry in entries:
            if entry.name in IGNORED:
                continue
            is_empty = False
            if not _is_folder(entry):
                found[prefix + entry.name] = _stamp(entry)
            elif entry.is_symlink():
                raise DataError(
                    f"{entry.path}: is a link to a folder. DVC does not follow it, so changes behind it would go "
                    "unnoticed. Replace the link by a copy of the folder, or set data.path to the folder."
                )
            else:
                folders.append(f"{prefix}{entry.name}/")
    return None if is_empty else folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _stamp(entry: os.DirEntry[str]) -> Stamp | None:
    try:
        found = entry.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns) if stat.S_ISREG(found.st_mode) else None
