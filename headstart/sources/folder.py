"""Listing: every file below a folder, in the order of the paths, with what tells that it changed."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.base.errors import DataError

# .dvcignore and DVC itself hide these: were they listed, the index could change without DVC seeing why.
IGNORED = frozenset({".DS_Store", "Thumbs.db", "__pycache__", ".dvc", ".git", ".hg"})
# Length in bytes, time of the last change of the content and of the file's entry, in ns. The last one tells files that
# were replaced by others of the same length and time, as archives unpack them.
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder holds.

    Attributes:
        files: Path below the folder, with `/`, and stamp; None for what is no regular file or cannot be looked at.
        empty_folders: Paths of folders without anything in them, which DVC does not see, but for hidden ones.
    """

    files: Mapping[str, Stamp | None]
    empty_folders: Sequence[str]


def list_files(root: Path) -> Listing:
    """Look at every file below a folder that DVC looks at too.

    Raises:
        DataError: The folder is missing, or has a link to a folder in it.
    """
    if not root.is_dir():
        raise DataError(
            f"data.path: {root} is no folder; expected one that holds the images, in class folders or with a table "
            "(index.table)"
        )
    found: dict[str, Stamp | None] = {}
    empty: list[str] = []
    to_do = [""]
    while to_do:
        prefix = to_do.pop()
        folders = _look(root, prefix, found)
        if folders is None:
            empty.append(prefix.removesuffix("/"))
        else:
            to_do += folders
    shown = [path for path in sorted(empty) if path and not f"/{path}".count("/.")]
    return Listing({path: found[path] for path in sorted(found)}, shown)


def _look(root: Path, prefix: str, found: dict[str, Stamp | None]) -> list[str] | None:
    """Look into one folder, and return the prefixes of the folders in it; None if it has nothing."""
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
                    f"{entry.path}: is a link to a folder, which DVC does not follow: a change behind it "
                    "would go unseen. Copy the folder, or point data.path at it."
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
