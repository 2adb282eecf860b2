"""The index: every file in exactly one row and one state, in the order of the paths."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from dvc.fs import LocalFileSystem
from dvc.repo import Repo
from PIL import ExifTags, Image

from benchmarks.hostile_files import slow_bitmap
from headstart.base.errors import DataError, TableError
from headstart.base.files import write_json
from headstart.base.helpers import Helpers
from headstart.imaging.effort import Limits
from headstart.imaging.formats import format_names
from headstart.sources.folder import IGNORED, Folder, Listing, Stamp
from headstart.tables.index import IndexRow, count_states, describe_states
from headstart.tables.rows import read_rows, write_rows
from stages.index import examination
from stages.index.build import build_index, check_bad, check_complete, check_exists, describe, read_settled
from stages.index.record import Record
from tests.conftest import index_params, write_photos
from tests.support.hostile import crash
from tests.support.source import ROOT

PARAMS = index_params(max_pixels=100_000)


def index(root: Path, num_workers: int = 2) -> dict[str, IndexRow]:
    """Return the index by path."""
    rows = build_index(Folder(root), Folder(root).list_files(), PARAMS, num_workers)

    assert [row.path for row in rows] == sorted(row.path for row in rows)
    return {row.path: row for row in rows}


def test_ordinary_photos_are_ok(photos: Path) -> None:
    """Each photo has its digest, format and size in pixels."""
    rows = index(photos)

    assert len(rows) == 12
    assert {row.status for row in rows.values()} == {"ok"}
    with Image.open(photos / "red" / "1.png") as image:
        assert (rows["red/1.png"].width, rows["red/1.png"].height) == image.size
    assert rows["red/1.png"].format == "PNG"
    assert len(rows["red/1.png"].digest) == 64


def test_every_odd_file_has_its_state_and_reason(photos: Path) -> None:
    """Damaged, foreign, hidden, oversized, rotated and duplicate files each have a state and a reason; none is lost."""
    red = photos / "red"
    (red / "notes.txt").write_text("hello")
    (red / "noextension").write_text("hello")
    (red / "empty.png").write_bytes(b"")
    (red / "page.png").write_text("<html>")
    (red / "cut.jpg").write_bytes((red / "0.jpg").read_bytes()[:-200])
    (red / ".hidden.png").write_bytes((red / "1.png").read_bytes())
    (red / "UPPER.PNG").write_bytes((red / "1.png").read_bytes())
    Image.new("RGB", (400, 251)).save(red / "large.png")
    Image.new("RGB", (2, 201)).save(red / "thin.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(red / "turned.jpg", exif=exif)
    (red / "folder.jpg").mkdir()
    (red / "broken link.jpg").symlink_to("nowhere")
    os.mkfifo(red / "pipe.jpg")
    rows = index(photos)
    states = {path: (row.status, row.reason) for path, row in rows.items() if row.status != "ok"}

    assert states == {
        "red/notes.txt": ("skipped", "extension .txt is not in index.extensions"),
        "red/noextension": ("skipped", "extension (none) is not in index.extensions"),
        "red/empty.png": ("quarantined", "zero bytes"),
        "red/page.png": ("quarantined", f"not an image of a known format ({', '.join(format_names())})"),
        "red/cut.jpg": ("quarantined", rows["red/cut.jpg"].reason),
        "red/.hidden.png": ("skipped", "hidden"),
        "red/UPPER.PNG": ("duplicate", "same bytes as red/1.png"),
        "red/large.png": ("quarantined", "400 x 251 pixels; at most 100000 are allowed"),
        "red/thin.png": ("quarantined", "2 x 201 pixels: a side is over 100 times the other"),
        "red/turned.jpg": ("repaired", "EXIF orientation 6, one colour"),
        "red/broken link.jpg": ("quarantined", "cannot be read: No such file or directory"),
        "red/pipe.jpg": ("skipped", "not a regular file"),
    }
    assert "truncated" in rows["red/cut.jpg"].reason
    assert (rows["red/turned.jpg"].width, rows["red/turned.jpg"].height) == (20, 30)
    sums = "24 files = 12 ok + 1 repaired + 1 duplicate + 6 quarantined + 4 skipped"
    assert describe_states(list(rows.values())) == sums


def test_names_of_any_kind_survive(photos: Path) -> None:
    """Names keep spaces, quotes, line ends and other scripts; a name that is not UTF-8 is skipped and shown escaped."""
    for name in ['a "b", c.png', "line\nend.png", "köln 蟻.png", "\udcff.png"]:
        Image.new("L", (len(name), 5)).save(photos / "red" / "x.png")
        (photos / "red" / "x.png").rename(photos / "red" / name)
    rows = index(photos)

    assert {f"red/{name}" for name in ['a "b", c.png', "line\nend.png", "köln 蟻.png"]} < set(rows)
    assert rows["red/\\xff.png"].reason == "the name is not UTF-8"


def test_linked_files_are_read_and_linked_folders_refused(photos: Path) -> None:
    """A link to a photo counts like the photo; a link to a folder is refused, because DVC sees no change behind it."""
    other = photos.parent / "other.png"
    Image.new("RGB", (9, 9)).save(other)
    (photos / "red" / "linked.png").symlink_to(other)
    assert index(photos)["red/linked.png"].status == "ok"

    (photos / "linked").symlink_to(photos / "red")
    with pytest.raises(DataError, match="photos/linked: is a link to a folder. DVC does not follow it"):
        index(photos)


def test_the_index_does_not_depend_on_the_machine(photos: Path, tmp_path: Path) -> None:
    """The number of threads, the place of the folder and the order of creation do not change the rows."""
    copy = tmp_path / "copy"
    for file in sorted((path for path in photos.rglob("*.*")), reverse=True):
        target = copy / file.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)

    assert index(photos, num_workers=1) == index(copy, num_workers=4)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    """A missing folder, an empty one and one without usable images are errors that say what was found."""
    with pytest.raises(DataError, match="is not a folder"):
        index(tmp_path / "absent")
    with pytest.raises(DataError, match="has no usable image .0 files.; expected <class>/<image>"):
        index(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match=r"1 files = 1 skipped.*a\.txt: extension \.txt"):
        index(tmp_path)


def test_a_missing_built_in_data_set_names_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which make target makes the folder; a folder of the user's or one that exists is no error here."""
    monkeypatch.chdir(tmp_path)
    for folder, command in (
        ("data/ants_bees", "make ants_bees"),
        ("data/ants_bees/", "make ants_bees"),
        ("data/digits", "make data/digits"),
    ):
        with pytest.raises(DataError, match=f"data.path: {folder} is missing.* Run: {command}$"):
            check_exists(folder)
    check_exists("data/my_photos")
    Path("data/ants_bees").mkdir(parents=True)
    check_exists("data/ants_bees")


def test_files_that_dvc_ignores_are_not_input() -> None:
    """Files that .dvcignore hides from DVC are not listed: a result must not depend on files that DVC cannot see."""
    lines = (ROOT / ".dvcignore").read_text().splitlines()

    own = {".dvc", ".git", ".hg"}  # DVC ignores these without a rule
    assert {line.rstrip("/") for line in lines if not line.startswith("#")} | own == IGNORED


def test_files_that_dvc_ignores_change_nothing(photos: Path) -> None:
    """Files that a desktop or git leaves in the folder do not change the index."""
    before = index(photos)
    (photos / ".DS_Store").write_bytes(b"x")
    (photos / "red" / "Thumbs.db").write_bytes(b"x")
    (photos / ".git").mkdir()
    (photos / ".git" / "a.png").write_bytes(b"x")

    assert index(photos) == before


def test_hidden_folders_are_input_as_dvc_counts_them(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC counts and hashes files in hidden folders, so the index lists and counts them too, as skipped."""
    before = index(photos)
    (photos / "red" / ".thumbs" / "a").mkdir(parents=True)
    (photos / "red" / ".thumbs" / "empty").mkdir()
    (photos / "red" / ".thumbs" / "a" / "1.png").write_bytes((photos / "red" / "1.png").read_bytes())
    (photos / "red" / ".git").mkdir()
    (photos / "red" / ".git" / "x").write_bytes(b"x")
    monkeypatch.chdir(photos.parent)
    counted = sum(1 for _ in Repo.init(no_scm=True).dvcignore.find(LocalFileSystem(), str(photos)))

    after = index(photos)
    assert set(after) - set(before) == {"red/.thumbs/a/1.png"}
    assert after["red/.thumbs/a/1.png"].reason == "hidden"
    assert Folder(photos).list_files().empty_folders == []
    assert len(after) == counted


def test_files_whose_names_look_alike_stay_apart(photos: Path) -> None:
    """A name that is not UTF-8 is shown escaped; a file with that very name has its own row, in one order."""
    escaped, odd = photos / "red" / "x\\xff.png", os.fsencode(photos / "red") + b"/x\xff.png"
    escaped.write_bytes((photos / "red" / "1.png").read_bytes() + b"more")
    with open(odd, "wb") as file:  # noqa: PTH123 - a Path cannot hold this name
        file.write(b"x")
    orders = [
        build_index(Folder(photos), Listing(files, []), PARAMS, 1)
        for files in _orders(Folder(photos).list_files().files)
    ]

    assert [row.status for row in orders[0] if row.path == "red/x\\xff.png"] == ["skipped", "ok"]
    assert orders[0] == orders[1]


def _orders(files: Mapping[str, Stamp | None]) -> list[dict[str, Stamp | None]]:
    return [dict(files), dict(reversed(list(files.items())))]


def test_deep_folders_are_looked_into(tmp_path: Path) -> None:
    """Folders may be nested deeper than Python's recursion limit."""
    folder = str(tmp_path)
    for _ in range(1200):
        folder += "/d"
        os.mkdir(folder)  # noqa: PTH102 - a Path's own way is recursive
    Path(folder, "x.txt").write_bytes(b"x")

    try:
        assert list(Folder(tmp_path).list_files().files) == ["d/" * 1200 + "x.txt"]
    finally:
        subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)  # pytest cannot remove it


def test_ants_and_bees(ants_bees: Path) -> None:
    """The tutorial's data set has 397 photos; the stray GIF is listed as skipped."""
    params = index_params(extensions=["jpeg", "jpg", "png"])
    rows = build_index(Folder(ants_bees), Folder(ants_bees).list_files(), params, num_workers=2)

    assert describe_states(rows) == "398 files = 397 ok + 1 skipped"
    assert [row.path for row in rows if row.status == "skipped"] == ["train/ants/imageNotFound.gif"]


@pytest.mark.parametrize(
    ("num_files", "fraction", "refused"),
    [(100, 0.1, False), (90, 0.1, False), (89, 0.1, True), (0, 1.0, False), (99, 0.0, True)],
)
def test_a_folder_that_lost_many_files_is_refused(
    tmp_path: Path, num_files: int, fraction: float, refused: bool
) -> None:
    """The number of files in dvc.lock reveals a partial copy; another folder is not compared."""
    lock = tmp_path / "dvc.lock"
    check_complete(num_files, "data/photos", lock, fraction)  # no lock yet
    write_json(lock, {"stages": {"index": {"deps": [{"path": "data/photos", "nfiles": 100}, {"path": "x.py"}]}}})
    check_complete(num_files, "data/others", lock, fraction)
    for folder in ("data/photos/", "./data/photos") * refused:
        with pytest.raises(DataError, match="a partial copy"):
            check_complete(num_files, folder, lock, fraction)
    if refused:
        with pytest.raises(DataError, match=f"data/photos has {num_files} files, but had 100 .*a partial copy"):
            check_complete(num_files, "data/photos", lock, fraction)
    else:
        check_complete(num_files, "data/photos", lock, fraction)


def test_the_sums_are_shown_by_state_and_reason(photos: Path) -> None:
    """Every reason is printed with its number of files and an example."""
    for name in ("a", "b"):
        (photos / "red" / f"{name}.txt").write_text("hello")
    (photos / "blue" / "empty.png").write_bytes(b"")
    shutil.copy(photos / "red" / "1.png", photos / "red" / "copy.png")
    rows = build_index(Folder(photos), Folder(photos).list_files(), PARAMS, 1)

    assert describe(rows).splitlines() == [
        "index: 16 files = 12 ok + 1 duplicate + 1 quarantined + 2 skipped (every file is in data/index.csv)",
        "          1 quarantined: zero bytes, such as 'blue/empty.png'",
        "          2 skipped: extension .txt is not in index.extensions, such as 'red/a.txt'",
    ]
    assert sum(count for *_, count in count_states(rows)) == 16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"max_bad_fraction": 0.2}, None),
        ({"max_bad_fraction": 0.14}, r"2 of 14 files cannot be used as images, more than index.* \(0.14\)"),
        ({"on_bad": "fail"}, "2 of 14 files cannot be used as images, and .*is fail: 'red/x.png': zero bytes"),
    ],
)
def test_bad_files_are_refused_as_the_params_say(photos: Path, changes: dict[str, object], words: str | None) -> None:
    """A few are quarantined; many, or any if `on_bad` is `fail`, are an error that names them."""
    (photos / "red" / "x.png").write_bytes(b"")
    (photos / "red" / "y.png").write_bytes(b"hello")
    (photos / "red" / "notes.txt").write_bytes(b"hello")
    rows = list(index(photos).values())
    if words is None:
        check_bad(rows, index_params(**changes))
    else:
        with pytest.raises(DataError, match=words):
            check_bad(rows, index_params(**changes))


def test_empty_folders_are_named(photos: Path) -> None:
    """Empty folders are reported, because DVC does not see them; hidden ones are not, because they are no classes."""
    (photos / "yellow").mkdir()
    (photos / "red" / "b").mkdir()
    (photos / "red" / ".git" / "x").mkdir(parents=True)
    (photos / "green" / "Thumbs.db").write_bytes(b"x")

    assert Folder(photos).list_files().empty_folders == ["red/b", "yellow"]


@pytest.fixture
def old_photos(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos with old time stamps, and a project folder for the record."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    for path in photos.rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18))
    return photos


def recorded(root: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int = 1) -> tuple[list[IndexRow], list[str]]:
    """Build the index with the folder's record; return it, and the paths that were read."""
    read = []
    examine = examination.examine

    def watched(source: Folder, path: str, *others: Any) -> IndexRow:
        read.append(path)
        return examine(source, path, *others)

    with monkeypatch.context() as patch:
        patch.setattr(examination, "examine", watched)
        record = Record(root, PARAMS.max_pixels)
        rows = build_index(Folder(root), Folder(root).list_files(), PARAMS, num_workers, record)
    assert rows == build_index(Folder(root), Folder(root).list_files(), PARAMS, 1)
    return rows, sorted(read)


def test_only_files_that_changed_are_read_again(old_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files with the same path, length and times are not read; new, changed, renamed and removed ones are noticed."""
    assert len(recorded(old_photos, monkeypatch)[1]) == 12
    assert recorded(old_photos, monkeypatch)[1] == []

    Image.new("RGB", (9, 9)).save(old_photos / "red" / "new.png")
    (old_photos / "red" / "0.jpg").rename(old_photos / "red" / "renamed.jpg")
    (old_photos / "blue" / "1.png").unlink()
    shutil.copy(old_photos / "blue" / "3.png", old_photos / "green" / "1.png")
    rows, read = recorded(old_photos, monkeypatch)
    assert read == ["green/1.png", "red/new.png", "red/renamed.jpg"]
    assert len(rows) == 12


def test_camera_and_time_are_indexed_and_recorded(old_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of a photo says which camera took it and when, also if the file is not read again."""
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "EOS, 5D"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:01 12:00:00"
    path = old_photos / "red" / "canon.jpg"
    Image.new("RGB", (9, 9)).save(path, exif=exif)
    os.utime(path, ns=(10**18, 10**18))

    for read in (13, 0):
        rows, paths = recorded(old_photos, monkeypatch)
        assert len(paths) == read
        write_rows(old_photos.parent / "index.csv", rows, IndexRow)
        assert read_rows(old_photos.parent / "index.csv", IndexRow) == rows
        assert {(row.path, row.camera, row.taken) for row in rows if row.camera or row.taken} == {
            ("red/canon.jpg", "EOS, 5D", "2024-05-01T12:00:00")
        }


@pytest.mark.parametrize("taken", ["noon", "2024-05-01T12:00:00+02:00"])
def test_a_time_that_cannot_be_compared_is_refused(tmp_path: Path, taken: str) -> None:
    """An index whose times are not all local times in ISO 8601 is damaged, and the message names the row."""
    write_rows(tmp_path / "index.csv", [IndexRow("a.png", "", "", 0, 0, "ok", "", "", taken)], IndexRow)

    with pytest.raises(TableError, match="row 1: taken is .*expected a time in ISO 8601 without a time zone"):
        read_rows(tmp_path / "index.csv", IndexRow)


def test_a_file_of_the_same_length_and_time_is_noticed(old_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with other bytes but the old length and time is read, as when an archive is unpacked over it."""
    path = old_photos / "red" / "same.png"
    for colour in ("red", "blue"):
        Image.new("RGB", (9, 9), colour).save(path, compress_level=0)
        os.utime(path, ns=(10**18, 10**18))
        assert "red/same.png" in recorded(old_photos, monkeypatch)[1]


def test_a_file_that_was_just_written_is_read_again(old_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file may change again within one tick of the clock, so it is not recorded until it is older."""
    recorded(old_photos, monkeypatch)
    Image.new("RGB", (9, 9)).save(old_photos / "red" / "new.png")

    assert recorded(old_photos, monkeypatch)[1] == ["red/new.png"]
    assert recorded(old_photos, monkeypatch)[1] == ["red/new.png"]


@pytest.mark.parametrize("damage", [0, 40, 70, 140, 300, 500, -2, "", "bogus", "bogus\n{}", None])
def test_without_its_record_the_index_is_the_same(
    old_photos: Path, monkeypatch: pytest.MonkeyPatch, damage: int | str | None
) -> None:
    """A record that is missing, from other params, or damaged in any single bit costs only time."""
    before = recorded(old_photos, monkeypatch)[0]
    path = Record(old_photos, PARAMS.max_pixels).path
    if damage is None:
        path.unlink()
    elif isinstance(damage, str):
        path.write_text(damage)
    else:
        content = bytearray(path.read_bytes())
        content[damage] ^= 1
        path.write_bytes(content)

    assert recorded(old_photos, monkeypatch) == (before, sorted(row.path for row in before))
    stamp = Folder(old_photos).list_files().files["red/1.png"]
    assert Record(old_photos, PARAMS.max_pixels).find("red/1.png", stamp)
    assert not Record(old_photos, PARAMS.max_pixels + 1).find("red/1.png", stamp)


def settled(root: Path, *changes: Callable[[], object]) -> tuple[list[IndexRow], int]:
    """Return the index, and the number of passes, if each pass is followed by a change of the folder."""
    following, passes = iter(changes), []

    def read(listing: Listing) -> list[IndexRow]:
        passes.append(listing)
        rows = build_index(Folder(root), listing, PARAMS, 1, Record(root, PARAMS.max_pixels))
        next(following, lambda: None)()
        return rows

    return read_settled(Folder(root), read)[1], len(passes)


@pytest.mark.parametrize("kind", ["overwritten", "added", "removed"])
def test_photos_that_change_meanwhile_are_read_again(
    kind: str, old_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A photo that is overwritten, added or removed while the index is made is in it as it is in the end."""
    path = old_photos / "red" / ("new.png" if kind == "added" else "1.png")

    def change() -> None:
        path.unlink(missing_ok=True)
        if kind != "removed":
            Image.new("RGB", (7, 5)).save(path)

    rows, num_passes = settled(old_photos, change)

    assert num_passes == 2
    assert rows == build_index(Folder(old_photos), Folder(old_photos).list_files(), PARAMS, 1)
    assert f"index: 1 files changed while they were read, the first 'red/{path.name}'" in capsys.readouterr().out
    assert settled(old_photos)[1] == 1


def test_photos_that_never_rest_are_an_error(old_photos: Path) -> None:
    """If files change in every pass, the stage ends and names one of them."""
    change = [lambda n=n: Image.new("RGB", (7, n)).save(old_photos / "red" / "live.png") for n in range(1, 9)]

    with pytest.raises(DataError, match=r"in each of 3 passes files of .*the first 'red/live\.png'\. Wait until"):
        settled(old_photos, *change)


def test_what_was_read_before_a_stop_is_not_read_again(old_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted run records the files that it has read."""
    examine = examination.examine

    def interrupted(source: Folder, path: str, *others: Any) -> IndexRow:
        if path == "red/0.jpg":
            raise KeyboardInterrupt
        return examine(source, path, *others)

    with monkeypatch.context() as patch:
        patch.setattr(examination, "examine", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_index(
                Folder(old_photos), Folder(old_photos).list_files(), PARAMS, 1, Record(old_photos, PARAMS.max_pixels)
            )

    assert recorded(old_photos, monkeypatch)[1] == ["red/0.jpg", "red/1.png", "red/2.jpg", "red/3.png"]


def test_processes_give_the_same_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes give the rows of one thread, in the same order."""
    write_photos(tmp_path / "photos", per_class=50)
    (tmp_path / "photos" / "red" / "bad.png").write_bytes(b"hello")
    monkeypatch.setattr(examination, "_MANY", 10)
    rows = [
        build_index(Folder(tmp_path / "photos"), Folder(tmp_path / "photos").list_files(), PARAMS, num_workers)
        for num_workers in (1, 3)
    ]

    assert rows[0] == rows[1]
    assert len(rows[0]) == 151


def test_a_process_that_dies_is_an_error_with_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a process is killed, for example because memory is full, the message names the file to look at."""
    write_photos(tmp_path / "photos", per_class=8)
    monkeypatch.setattr(examination, "_MANY", 10)
    monkeypatch.setattr(examination, "_start_process", os.abort)

    with pytest.raises(DataError, match="a process died while it decoded 'blue/0.jpg' or one of the files after it"):
        build_index(Folder(tmp_path / "photos"), Folder(tmp_path / "photos").list_files(), PARAMS, 2)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_file_that_takes_too_long_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    """It is quarantined by name, in threads and in processes; a run with more time decodes it, record or not."""
    write_photos(tmp_path / "photos", per_class=5)
    (tmp_path / "photos" / "red" / "slow.bmp").write_bytes(slow_bitmap(2000, 1000))
    monkeypatch.setattr(examination, "_MANY", 10)

    def row_of(max_seconds: float) -> tuple[str, str]:
        params = index_params(extensions=["bmp", "jpg", "png"], max_seconds=max_seconds)
        source = Folder(tmp_path / "photos")
        record = Record(source.root, params.max_pixels)
        record._newest *= 2  # so that files of this moment are recorded
        rows = {row.path: row for row in build_index(source, source.list_files(), params, num_workers, record)}
        assert len(rows) == 16
        return rows["red/slow.bmp"].status, rows["red/slow.bmp"].reason

    assert row_of(0.1) == ("quarantined", "decoding takes longer than 0.1 seconds")
    assert row_of(60.0) == ("repaired", "palette, one colour")


def test_a_file_that_crashes_its_decoder_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a helper decodes, a crash costs that file alone."""
    write_photos(tmp_path / "photos", per_class=2)
    (tmp_path / "photos" / "red" / "slow.bmp").write_bytes(slow_bitmap(20, 10))
    monkeypatch.setattr(examination, "_read_and_describe", crash)
    helpers = Helpers(1)
    row = examination.examine(Folder(tmp_path / "photos"), "red/slow.bmp", Limits(10**6, 60), helpers)

    assert row.status == "quarantined"
    assert row.reason == "the decoder died (signal 6): a hostile file, or too little memory"


def test_the_file_systems_order_changes_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in which a folder is listed changes neither the rows nor which of two copies counts."""
    shutil.copy(photos / "red" / "1.png", photos / "red" / "copy.png")
    before, scandir = index(photos), os.scandir

    class Backwards:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self._entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert index(photos) == before


def test_the_commands_of_the_page_find_what_stops_dvc(tmp_path: Path) -> None:
    """The page of own photos has commands that find pipes, broken links and names that are not UTF-8, and no others."""
    page = (ROOT / "docs" / "how-to" / "own-photos.md").read_text()
    commands = [line for line in page.splitlines() if line.startswith("find data/my_photos")]
    folder = tmp_path / "data" / "my_photos"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("nowhere")
    for name in (b"\xff.png", "ü ok.png".encode()):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).touch()
    found = [subprocess.run(one, shell=True, cwd=tmp_path, capture_output=True).stdout.split(b"\n") for one in commands]

    assert [sorted(filter(None, lines)) for lines in found] == [
        [b"data/my_photos/link.png", b"data/my_photos/pipe.png"],
        [b"data/my_photos/\xff.png"],
    ]
