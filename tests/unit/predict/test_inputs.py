"""Inputs: the images that a command line names, and their bytes, from files and archives."""

import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstart.base.errors import DataError
from headstart.base.threads import in_order
from headstart.predict import archives, image_file, image_like
from headstart.predict import inputs as inputs_module
from headstart.predict.image_file import HeldBytes, ImageReadError
from headstart.predict.image_like import ImageLike
from headstart.predict.inputs import LoadedImage, find_inputs, load_inputs

NOTHING = io.BytesIO()


def names(inputs: Sequence[str], listed: bytes = b"") -> list[str]:
    """Return the names of the images that a command line names."""
    return [source.name for source in find_inputs(inputs, io.BytesIO(listed))]


def read_all(found: Iterator[LoadedImage]) -> list[tuple[str, bytes | str]]:
    """Return the bytes of each image, or the reason why there are none."""
    rows: list[tuple[str, bytes | str]] = []
    for one in found:
        try:
            with one.used() as data:
                rows.append((one.name, data))
        except ImageReadError as error:
            rows.append((one.name, str(error)))
    return rows


def test_files_folders_patterns_and_lists_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is that of the command line; a folder's images are sorted by path, without hidden ones."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "b/2.JPG",
        "b/1.png",
        "b/c/3.webp",
        "b/.x.png",
        "b/.h/4.png",
        "b/note.txt",
        "a.dat",
        "[1].png",
        "1.png",
    ):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).write_bytes(name.encode())

    assert names(["a.dat", "b", "1.png", "a.dat"]) == ["a.dat", "b/1.png", "b/2.JPG", "b/c/3.webp", "1.png", "a.dat"]
    many = [f"many/{number:02}/{name}.png" for number in range(20) for name in "ab"]
    for name in reversed(many):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).write_bytes(b"x")
    assert names(["many"]) == many
    assert names(["b/*.[pJ]*"]) == ["b/1.png", "b/2.JPG"]
    assert names(["**/*.webp"]) == ["b/c/3.webp"]
    assert names(["[1].png"]) == ["[1].png"]  # an existing file is not taken for a pattern
    assert names(["-", "1.png"], b"b/1.png\n\nnot there.png\r\n") == ["b/1.png", "not there.png", "1.png"]
    assert names(["-"], b"b/1.png\0with\nline.png\0") == ["b/1.png", "with\nline.png"]
    assert read_all(load_inputs(find_inputs(["1.png", "-"], io.BytesIO(b"gone.png")))) == [
        ("1.png", b"1.png"), ("gone.png", "cannot be read: No such file or directory")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nothing.png", "nothing.png: there is no such file, folder or archive"),
        ("*.gif", r"\*.gif: the pattern matches no file"),
        ("empty", r"empty: the folder has no image \(\.avif, \.bmp, "),
        ("text.zip", "text.zip: cannot be read as an archive"),
        ("text.tar.gz", "text.tar.gz: cannot be read as an archive"),
        ("none.zip", "none.zip: the archive has no image"),
        ("-", "the list of images is empty"),
    ],
)
def test_inputs_without_an_image_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, message: str
) -> None:
    """A word that names no image is an error before any work."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name in ("text.zip", "text.tar.gz", "empty/note.txt"):
        Path(name).write_text("hello")
    with zipfile.ZipFile("none.zip", "w") as archive:
        archive.writestr("note.txt", "hello")
    with pytest.raises(DataError, match=message):
        find_inputs([word], NOTHING)


def test_archives_are_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members come in the archive's order, nothing is written to disk, and a damaged member has a reason."""
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name in ("z/2.png", "../../up.jpg", "1.png", "note.txt", "__MACOSX/1.png", ".h/3.png"):
            archive.writestr(name, name)
    data = bytearray(Path("a.zip").read_bytes())
    data[data.index(b"1.png1.png") + 5] ^= 1  # in the contents of the member 1.png, so that its checksum fails
    Path("a.zip").write_bytes(bytes(data))
    with tarfile.open("b.tar.gz", "w:gz") as tar:
        for name in ("z.png", "a.png"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    rows = read_all(load_inputs(find_inputs(["a.zip", "b.tar.gz", "a.zip"], NOTHING)))
    of_zip = [("a.zip/z/2.png", b"z/2.png"), ("a.zip/../../up.jpg", b"../../up.jpg")]

    assert rows[:2] == of_zip
    assert rows[2][0] == "a.zip/1.png"
    assert "is damaged in the archive: Bad CRC-32" in str(rows[2][1])
    assert rows[3:5] == [("b.tar.gz/z.png", b"z.png"), ("b.tar.gz/a.png", b"a.png")]
    assert rows[5] == ("b.tar.gz/link.png", "is a link to '/etc/passwd', which is not in the archive")
    assert rows[6:8] == of_zip
    assert sorted(tmp_path.rglob("*")) == before

    monkeypatch.setattr(image_file, "MAX_FILE_BYTES", 5)
    Path("long.png").write_bytes(b"123456")
    assert read_all(load_inputs(find_inputs(["long.png"], NOTHING))) == [
        ("long.png", "the file has 6 bytes; at most 5 are read")
    ]


def write_archive(path: Path, sizes: Mapping[str, int]) -> None:
    """Write a zip or a tar with members of these sizes, and a link to the first of them in the tar."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, size in sizes.items():
                archive.writestr(name, bytes(size))
        return
    with tarfile.open(path, "w:gz") as tar:
        for name, size in sizes.items():
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(bytes(size)))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, next(iter(sizes))
        tar.addfile(link)


@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
def test_a_member_that_is_too_large_is_named_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its size is compared before any of it is unpacked, also through a link."""
    monkeypatch.setattr(image_file, "MAX_MEMBER_BYTES", 1000)
    monkeypatch.setattr(image_file, "_PIECE_BYTES", "reading would be an error")
    path = tmp_path / f"a{kind}"
    write_archive(path, {"large.png": 1001})
    rows = read_all(load_inputs(find_inputs([str(path)], NOTHING)))

    names = ["large.png"] if kind == ".zip" else ["large.png", "link.png"]
    reason = "the file has 1001 bytes; at most 1000 are read from an archive"
    assert rows == [(f"{path}/{name}", reason) for name in names]


def test_a_member_that_unpacks_to_more_than_it_claims_is_damaged(tmp_path: Path) -> None:
    """A size in the directory of a zip that is too small costs that member alone, and no more than that size."""
    path = tmp_path / "a.zip"
    write_archive(path, {"1.png": 100_000, "2.png": 5})
    data = path.read_bytes()
    path.write_bytes(data.replace((100_000).to_bytes(4, "little"), (50_000).to_bytes(4, "little")))
    rows = read_all(load_inputs(find_inputs([str(path)], NOTHING)))

    assert "is damaged in the archive" in str(rows[0][1])
    assert rows[1] == (f"{path}/2.png", bytes(5))


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.integers(1, 6), st.integers(1, 5))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_members_together_stay_within_the_budget(
    tmp_path: Path, sizes: list[int], num_in_batch: int, num_threads: int
) -> None:
    """However many threads use batches of members, those that were read and not used take no more than the budget."""
    path = tmp_path / "a.zip"
    path.unlink(missing_ok=True)
    write_archive(path, {f"{number}.png": size for number, size in enumerate(sizes)})
    held, most, lock = 0, 0, threading.Lock()
    read_member = image_file.read_member

    def count(num_bytes: int) -> None:
        nonlocal held, most
        with lock:
            held += num_bytes
            most = max(most, held)

    def counted(*given: Any) -> HeldBytes:
        found = read_member(*given)
        count(len(found))
        return found

    def use(batch: list[tuple[ImageLike, str]]) -> list[int]:
        found = []
        for image, _ in batch:
            assert isinstance(image, LoadedImage)
            with image.used() as data:
                found.append(len(data))
                count(-len(data))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "read_member", counted)
        patch.setattr(inputs_module, "_MEMORY_BYTES", 1500)
        patch.setattr(image_like, "_BATCH_BYTES", 500)
        patch.setattr(image_file, "MAX_MEMBER_BYTES", 1000)
        loaded = load_inputs(find_inputs([str(path)], NOTHING))
        found = list(in_order(use, image_like.in_batches(loaded, num_in_batch), num_threads))

    assert [size for batch in found for size in batch] == sizes
    assert most <= 1500
    assert held == 0


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("number", [0, 1])
def test_a_header_cannot_claim_gigabytes(kind: bytes, number: int, tmp_path: Path) -> None:
    """A long name or a list of attributes of gigabytes is an error of the archive, before any of it is read."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ["1.png"][:number]:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
        header = tarfile.TarInfo("bomb")
        header.type, header.size = kind, 3 * 2**30
        tar.fileobj.write(header.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(DataError, match=r"(?s)a\.tar: cannot be read as an archive .*claims 3221225472 bytes"):
        find_inputs([str(tmp_path / "a.tar")], NOTHING)


def test_other_headers_may_have_any_size(tmp_path: Path) -> None:
    """Some programs write the size of a file into the header of a folder or of a link to it; nothing is read there."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        header = tarfile.TarInfo("1.png")
        header.type, header.linkname = tarfile.LNKTYPE, "0.png"
        raw = bytearray(header.tobuf())
        raw[124:136] = b"%011o\0" % (3 * 2**20)
        raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + 8 * 32 + sum(raw[156:512]))
        tar.fileobj.write(bytes(raw))
        tar.addfile(tarfile.TarInfo("2.png"), io.BytesIO(b""))
    assert [Path(image.name).name for image in find_inputs([str(tmp_path / "a.tar")], NOTHING)] == ["1.png", "2.png"]


def test_links_in_an_archive_are_followed_inside_it(tmp_path: Path) -> None:
    """Hard and symbolic links give the member that they lead to, or a reason if that is not in the archive."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("x/1.png")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"one"))
        for name, kind, target in (
            ("x/hard.png", tarfile.LNKTYPE, "x/1.png"),
            ("x/soft.png", tarfile.SYMTYPE, "1.png"),
            ("x/loop.png", tarfile.SYMTYPE, "loop.png"),
            ("x/out.png", tarfile.SYMTYPE, "../../1.png"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            tar.addfile(link)
    rows = read_all(load_inputs(find_inputs([str(tmp_path / "a.tar")], NOTHING)))

    assert [data for _, data in rows[:3]] == [b"one"] * 3
    assert "is a link to 'loop.png', which is not in" in str(rows[3][1])
    assert "is a link to '../../1.png', which is not in" in str(rows[4][1])


@pytest.mark.parametrize("kind", ["no end", "cut in a header", "cut in a file", "damaged header"])
def test_a_cut_archive_is_an_error(tmp_path: Path, kind: str) -> None:
    """Python treats a damaged header as the end and would silently leave out the members after it."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(4):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = 600
            tar.addfile(info, io.BytesIO(b"x" * 600))
    data = bytearray(path.read_bytes())
    length = {"no end": 4 * 1536, "cut in a header": 2 * 1536 + 100, "cut in a file": 2 * 1536 + 700}
    if kind == "damaged header":
        data[2 * 1536 + 3] ^= 1
    path.write_bytes(data[: length.get(kind)])

    with pytest.raises(DataError, match=r"a\.tar: cannot be read as an archive \("):
        find_inputs([str(path)], NOTHING)


def test_a_pipe_has_a_reason(tmp_path: Path) -> None:
    """Reading does not wait for a writer that may never come."""
    os.mkfifo(tmp_path / "pipe.png")
    (row,) = read_all(load_inputs(find_inputs([str(tmp_path / "pipe.png")], NOTHING)))

    assert row[1] == "not a regular file"


def test_an_encrypted_member_has_a_reason(tmp_path: Path) -> None:
    """A member that needs a password says so."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.png", "x")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption
    (tmp_path / "a.zip").write_bytes(bytes(data))
    (row,) = read_all(load_inputs(find_inputs([str(tmp_path / "a.zip")], NOTHING)))

    assert "is encrypted" in str(row[1])
