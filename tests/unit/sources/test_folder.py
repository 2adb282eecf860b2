"""The source of the images: a folder, or anything else with its methods."""

import os
import socket
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from headstart.base.files import NotRegularError
from headstart.imaging.clock import Clock
from headstart.imaging.reader import MemoryBudget, Reader
from headstart.imaging.transform import Transform, View
from headstart.sources.folder import Folder, Listing, open_source
from stages.index.build import build_index
from stages.report.thumbnails import Thumbnails
from tests.conftest import index_params

CENTER = View(None, mirror=False)
SMALL = Transform(32, 32, squash=False, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


class InMemory:
    """A bucket, as it were: files by their paths, and nothing on disk."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def list_files(self) -> Listing:
        """Return what there is, with sizes as stamps."""
        return Listing({path: (len(data), 0, 0) for path, data in sorted(self.files.items())}, [])

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return path in self.files

    def read(self, path: str) -> bytes:
        """Return its bytes."""
        return self.files[path]


def test_any_place_with_the_methods_of_a_folder_serves_every_stage(photos: Path) -> None:
    """The index, the pixels and the thumbnails of files that are not on disk are those of the folder."""
    folder = Folder(photos)
    files = {path: folder.read(path) for path in folder.list_files().files}
    bucket = cast("Folder", InMemory(files))

    rows = build_index(bucket, bucket.list_files(), index_params(), 2)
    assert rows == build_index(folder, folder.list_files(), index_params(), 2)
    readers = [
        Reader(place, SMALL, [CENTER], MemoryBudget(2**30), Clock(), min_side_px=None) for place in (folder, bucket)
    ]
    assert readers[1].missing(rows) == []
    for row in rows:
        assert np.array_equal(readers[0].pixels(row), readers[1].pixels(row))
    digests = [row.digest for row in rows]
    assert Thumbnails(bucket, rows, 2, 0).of(digests, 32) == Thumbnails(folder, rows, 2, 0).of(digests, 32)


def test_only_regular_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes and sockets are refused at once, without waiting; a folder or a missing file is an error of the system."""
    os.mkfifo(tmp_path / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    listening.bind("socket")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"abc")
    folder = open_source(str(tmp_path))

    assert folder.read("file") == b"abc"
    assert [folder.has(path) for path in ("file", "pipe", "folder", "none")] == [True, False, False, False]
    for path in ("pipe", "socket"):
        with pytest.raises(NotRegularError, match="not a regular file"):
            folder.read(path)
    listening.close()
    for path, error in (("folder", IsADirectoryError), ("none", FileNotFoundError)):
        with pytest.raises(error):
            folder.read(path)
