"""The ledger: every file in exactly one row and one state, in the order of the paths."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from stages.core.errors import DataError
from stages.core.files import write_json
from stages.core.tables import IndexRow
from stages.index.completeness import check_complete
from stages.index.ledger import IGNORED, build_ledger, describe
from stages.index.params import IndexParams
from tests.source import ROOT

PARAMS = IndexParams(extensions=["gif", "jpeg", "jpg", "png"], max_removed_fraction=0.1, max_pixels=100_000)


def ledger(root: Path, num_workers: int = 2) -> dict[str, IndexRow]:
    """Return the ledger by path."""
    rows = build_ledger(root, PARAMS, num_workers)

    assert [row.path for row in rows] == sorted(row.path for row in rows)
    return {row.path: row for row in rows}


def test_ordinary_photos_are_ok(photos: Path) -> None:
    """Each photo has its digest, format and size in pixels."""
    rows = ledger(photos)

    assert len(rows) == 12
    assert {row.status for row in rows.values()} == {"ok"}
    with Image.open(photos / "red" / "1.png") as image:
        assert (rows["red/1.png"].width, rows["red/1.png"].height) == image.size
    assert rows["red/1.png"].format == "PNG"
    assert len(rows["red/1.png"].digest) == 64


def test_every_odd_file_has_its_state_and_reason(photos: Path) -> None:
    """Damaged, foreign, hidden, oversized, turned and doubled files are each accounted for, none is lost."""
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
    rows = ledger(photos)
    states = {path: (row.status, row.reason) for path, row in rows.items() if row.status != "ok"}

    assert states == {
        "red/notes.txt": ("skipped", "extension .txt is not in index.extensions"),
        "red/noextension": ("skipped", "extension (none) is not in index.extensions"),
        "red/empty.png": ("quarantined", "zero bytes"),
        "red/page.png": ("quarantined", "not an image of a known format (BMP, GIF, JPEG, PNG, TIFF, WEBP)"),
        "red/cut.jpg": ("quarantined", rows["red/cut.jpg"].reason),
        "red/.hidden.png": ("skipped", "hidden"),
        "red/UPPER.PNG": ("duplicate", "same bytes as red/1.png"),
        "red/large.png": ("quarantined", "400 x 251 pixels; at most 100000 are allowed"),
        "red/thin.png": ("quarantined", "2 x 201 pixels: a side is over 100 times the other"),
        "red/turned.jpg": ("repaired", "EXIF orientation 6"),
        "red/broken link.jpg": ("quarantined", "cannot be read: No such file or directory"),
        "red/pipe.jpg": ("skipped", "not a regular file"),
    }
    assert "truncated" in rows["red/cut.jpg"].reason
    assert (rows["red/turned.jpg"].width, rows["red/turned.jpg"].height) == (20, 30)
    assert describe(list(rows.values())) == ("24 files = 12 ok + 1 repaired + 1 duplicate + 6 quarantined + 4 skipped")


def test_names_of_any_kind_survive(photos: Path) -> None:
    """Spaces, quotes, line ends and other scripts in names are kept; a name that is not UTF-8 is skipped and shown."""
    for name in ['a "b", c.png', "line\nend.png", "köln 蟻.png", "\udcff.png"]:
        Image.new("L", (len(name), 5)).save(photos / "red" / "x.png")
        (photos / "red" / "x.png").rename(photos / "red" / name)
    rows = ledger(photos)

    assert {f"red/{name}" for name in ['a "b", c.png', "line\nend.png", "köln 蟻.png"]} < set(rows)
    assert rows["red/\\xff.png"].reason == "the name is not UTF-8"


def test_linked_files_are_read_and_linked_folders_refused(photos: Path) -> None:
    """A link to a photo counts like the photo; a link to a folder, behind which DVC sees no change, is refused."""
    other = photos.parent / "other.png"
    Image.new("RGB", (9, 9)).save(other)
    (photos / "red" / "linked.png").symlink_to(other)
    assert ledger(photos)["red/linked.png"].status == "ok"

    (photos / "linked").symlink_to(photos / "red")
    with pytest.raises(DataError, match="photos/linked: is a link to a folder, which DVC does not follow"):
        ledger(photos)


def test_the_ledger_does_not_depend_on_the_machine(photos: Path, tmp_path: Path) -> None:
    """Another number of threads, another place and another order of creation give the same rows."""
    copy = tmp_path / "copy"
    for file in sorted((path for path in photos.rglob("*.*")), reverse=True):
        target = copy / file.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)

    assert ledger(photos, num_workers=1) == ledger(copy, num_workers=4)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    """A missing folder, an empty one and one without usable images each get an error that says what is there."""
    with pytest.raises(DataError, match="is no folder"):
        ledger(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no usable image .0 files.; expected <class>/<image>"):
        ledger(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match=r"1 files = 1 skipped.*a\.txt: extension \.txt"):
        ledger(tmp_path)


def test_files_that_dvc_ignores_are_not_input() -> None:
    """What .dvcignore hides from DVC is not listed either: a result must not depend on what DVC cannot see."""
    lines = (ROOT / ".dvcignore").read_text().splitlines()

    assert {line.rstrip("/") for line in lines if not line.startswith("#")} == IGNORED


def test_files_that_dvc_ignores_change_nothing(photos: Path) -> None:
    """A desktop's droppings leave the ledger as it was."""
    before = ledger(photos)
    (photos / ".DS_Store").write_bytes(b"x")
    (photos / "red" / "Thumbs.db").write_bytes(b"x")
    (photos / ".git").mkdir()
    (photos / ".git" / "a.png").write_bytes(b"x")

    assert ledger(photos) == before


def test_ants_and_bees(ants_bees: Path) -> None:
    """The tutorials' data set: 397 photos, and the stray GIF is listed as skipped."""
    params = IndexParams(extensions=["jpeg", "jpg", "png"], max_removed_fraction=0.1, max_pixels=10**8)
    rows = build_ledger(ants_bees, params, num_workers=2)

    assert describe(rows) == "398 files = 397 ok + 1 skipped"
    assert [row.path for row in rows if row.status == "skipped"] == ["train/ants/imageNotFound.gif"]


@pytest.mark.parametrize(
    ("num_files", "fraction", "refused"),
    [(100, 0.1, False), (90, 0.1, False), (89, 0.1, True), (0, 1.0, False), (99, 0.0, True)],
)
def test_a_folder_that_lost_many_files_is_refused(
    tmp_path: Path, num_files: int, fraction: float, refused: bool
) -> None:
    """A partial copy is told from a change by the number of files in dvc.lock; another folder is not compared."""
    lock = tmp_path / "dvc.lock"
    check_complete(num_files, "data/photos", lock, fraction)  # no lock yet
    write_json(lock, {"stages": {"index": {"deps": [{"path": "data/photos", "nfiles": 100}, {"path": "x.py"}]}}})
    check_complete(num_files, "data/others", lock, fraction)
    if refused:
        with pytest.raises(DataError, match=f"data/photos has {num_files} files, and had 100 .*a partial copy"):
            check_complete(num_files, "data/photos", lock, fraction)
    else:
        check_complete(num_files, "data/photos", lock, fraction)
