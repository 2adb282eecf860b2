"""Kept files come back as they were written, or not at all, and whatever is wrong with one is said."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from headstart.base.files import NotRegularError, read_bytes, sha256_file
from headstart.base.kept import read_kept, try_to_write, write_kept

KEY, OTHER = (sha256(name).hexdigest() for name in (b"this", b"other"))


def test_a_kept_file_is_found_by_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The content comes back under its key; a missing file and one of another key are none, without a word."""
    write_kept(tmp_path / "sub" / "f", KEY, b"one\n", memoryview(b"two"))

    assert read_kept(tmp_path / "sub" / "f", KEY, "stage") == b"one\ntwo"
    assert read_kept(tmp_path / "sub" / "f", OTHER, "stage") is None
    assert read_kept(tmp_path / "f", KEY, "stage") is None
    assert capsys.readouterr().out == ""


def test_every_flipped_bit_makes_a_kept_file_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever bit of a file has flipped, its content is not used, and one in the content is named."""
    path = tmp_path / "f"
    write_kept(path, KEY, b"some content")
    whole = path.read_bytes()
    for place in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert read_kept(path, KEY, "stage") is None, place

    assert f"stage: WARNING: {path} is damaged (its checksum is wrong); it is made anew" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "link in a circle"])
def test_what_is_no_file_is_named_and_never_waited_for(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe, a folder, a device or a broken link in place of a kept file is as good as none, and it is named."""
    path = tmp_path / "f"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)

    assert read_kept(path, KEY, "stage") is None
    assert f"stage: WARNING: {path} cannot be read (" in capsys.readouterr().out
    if kind != "link in a circle":
        with pytest.raises(NotRegularError, match="not a regular file"):
            read_bytes(path)
        with pytest.raises(NotRegularError, match="not a regular file"):
            sha256_file(path)


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a kept file cannot be written, a warning names it."""
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "f"
    try_to_write(path, lambda: write_kept(path, KEY, b""), "stage")

    assert f"stage: WARNING: {path}: cannot be written (" in capsys.readouterr().out
