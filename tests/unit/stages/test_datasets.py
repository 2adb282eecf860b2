"""A built-in data set is complete and checked, or its folder does not exist."""

import hashlib
import zipfile
from functools import partial
from http.server import HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from headstart.base.errors import DataError, DownloadError
from stages.datasets import ants_bees as module
from stages.datasets.ants_bees import check_files, read_digests, write_ants_bees
from stages.datasets.digits import write_digits
from tests.support.source import ROOT
from tests.unit.backbone.test_build import QuietHandler

NOWHERE = "http://127.0.0.1:9/hymenoptera_data.zip"
FILES = {"train/ants/a b.jpg": b"ant", "train/bees/c.jpg": b"bee", "val/ants/d.jpg": b"other ant"}
EXPECTED = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    """Write files into a zip below one top folder, as the tutorial's zip has them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name if name.startswith(("/", "..")) else f"hymenoptera_data/{name}", data)
    return path


def make(tmp_path: Path, url: str = NOWHERE) -> str:
    """Make the data set from a copy in `tmp_path`, or from an address."""
    return write_ants_bees(tmp_path / "out", EXPECTED, tmp_path / "own", tmp_path / "own.zip", url)


def made(tmp_path: Path) -> dict[str, bytes]:
    """Return the bytes of every file of the data set, by path."""
    out = tmp_path / "out"
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    """Every digit is a PNG with its gray levels in the folder of its class; a second run gives the same bytes."""
    digits = load_digits()

    assert write_digits(tmp_path / "a") == write_digits(tmp_path / "b") == 1797
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 1797
    for file in files:
        position = int(file.stem)
        with Image.open(tmp_path / "a" / file) as image:
            assert np.array_equal(np.asarray(image), np.rint(digits.images[position] * 255 / 16))
        assert file.parent.name == str(digits.target[position])
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_zip_from_the_network_is_unpacked(tmp_path: Path) -> None:
    """Without a local copy, the zip is fetched, unpacked, checked and deleted."""
    served = tmp_path / "served"
    served.mkdir()
    write_zip(served / "x.zip", FILES)
    with HTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(served))) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{http.server_port}/x.zip"
        assert make(tmp_path, url) == url
        http.shutdown()

    assert made(tmp_path) == FILES


def test_a_local_zip_is_used(tmp_path: Path) -> None:
    """A local zip is used instead of the network; files that are not listed are not unpacked."""
    write_zip(tmp_path / "own.zip", {**FILES, "train/ants/extra.jpg": b"extra", "../evil": b"evil", "/evil": b"evil"})

    assert make(tmp_path) == str(tmp_path / "own.zip")
    assert made(tmp_path) == FILES
    assert not list(tmp_path.parent.rglob("evil"))


def test_a_local_folder_is_used(tmp_path: Path) -> None:
    """A local unpacked folder is copied and checked."""
    for name, data in FILES.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(data)

    assert make(tmp_path) == str(tmp_path / "own")
    assert made(tmp_path) == FILES


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({**FILES, "val/ants/d.jpg": b"changed"}, r"val/ants/d\.jpg: sha256 is .*, expected"),
        ({name: data for name, data in FILES.items() if "bees" not in name}, r"has no train/bees/c\.jpg"),
        (None, "is not a zip file"),
    ],
)
def test_a_wrong_source_is_refused_and_leaves_nothing(
    tmp_path: Path, files: dict[str, bytes] | None, words: str
) -> None:
    """A changed file, a missing file or a file that is not a zip is an error that names it, and no folder is made."""
    path = tmp_path / "own.zip"
    if files is None:
        path.write_text("<html>")
    else:
        write_zip(path, files)

    with pytest.raises(DataError, match=words):
        make(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["own.zip"]


def test_no_network_says_where_to_put_a_copy(tmp_path: Path) -> None:
    """Without a network and a copy, the error says what to fetch by hand and where to put it."""
    with pytest.raises(DownloadError, match=r"by hand, put it at data/hymenoptera_data\.zip"):
        make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_committed_list_is_of_the_tutorials_photos(ants_bees: Path) -> None:
    """The committed digests are those of the real photos."""
    digests = read_digests(ROOT / "data" / "ants_bees.sha256")

    assert digests == {
        path.relative_to(ants_bees).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in ants_bees.rglob("*")
        if path.is_file()
    }


def test_missing_and_changed_files_of_the_photos_are_found(tmp_path: Path) -> None:
    """A complete folder is accepted; the error names a missing and a changed file, each alone and both together."""
    write_zip(tmp_path / "own.zip", FILES)
    make(tmp_path)
    out = tmp_path / "out"
    check_files(out, EXPECTED)

    (out / "train/bees/c.jpg").unlink()
    with pytest.raises(DataError, match=r"of 3 files 1 are missing, the first train/bees/c\.jpg\. Delete the folder"):
        check_files(out, EXPECTED)
    (out / "val/ants/d.jpg").write_bytes(b"another")
    words = r"1 are missing, .*c\.jpg; 1 have other bytes, the first val/ants/d\.jpg\. Delete .* make ants_bees"
    with pytest.raises(DataError, match=words):
        check_files(out, EXPECTED)
    (out / "train/bees/c.jpg").write_bytes(FILES["train/bees/c.jpg"])
    with pytest.raises(DataError, match=r"of 3 files 1 have other bytes, the first val/ants/d\.jpg\. Delete"):
        check_files(out, EXPECTED)


def test_making_the_photos_twice_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run only says that the folder is complete, and names files that were added; damage is an error."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    write_zip(Path("data/hymenoptera_data.zip"), FILES)
    lines = [f"{digest}  {name}\n" for name, digest in EXPECTED.items()]
    Path("data/ants_bees.sha256").write_text("".join(lines))

    module.main()
    assert "ants_bees: 3 files in data/ants_bees, from data/hymenoptera_data.zip" in capsys.readouterr().out
    Path("data/hymenoptera_data.zip").unlink()  # the second run needs no source
    module.main()
    assert capsys.readouterr().out == "ants_bees: data/ants_bees is complete: 3 files\n"
    Path("data/ants_bees/train/ants/mine.jpg").write_bytes(b"mine")
    Path("data/ants_bees/.DS_Store").write_bytes(b"not listed by the index either")
    module.main()
    assert capsys.readouterr().out == (
        "ants_bees: data/ants_bees is complete: 3 files\n"
        "ants_bees: WARNING: data/ants_bees holds other files too: 1, the first 'train/ants/mine.jpg'\n"
    )
    Path("data/ants_bees/val/ants/d.jpg").unlink()
    with pytest.raises(DataError, match="data/ants_bees: of 3 files 1 are missing"):
        module.main()
    assert Path("data/ants_bees/train/ants/a b.jpg").is_file()
