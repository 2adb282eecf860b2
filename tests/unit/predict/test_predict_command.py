"""The command: every named image is a row, in order, in every format; a job that was stopped goes on."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from headstart.backbone.params import BackboneParams
from headstart.base.csv_files import read_foreign_csv
from headstart.base.errors import DataError
from headstart.predict import image_file
from headstart.predict.commands import predict as command
from headstart.predict.commands.predict import parse, run
from headstart.predict.image_file import ImageReadError
from headstart.predict.inputs import LoadedImage, find_inputs, load_inputs
from headstart.predict.journal import Journal
from headstart.predict.model import Model, load
from tests.support.bundles import make_bundle, written
from tests.support.source import ROOT

NOTHING = io.BytesIO()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams) -> Path:
    """A bundle that needs no other file."""
    return written(tmp_path_factory.mktemp("bundle") / "b", make_bundle(tiny_backbone, track="finetune", views=1))


def names(inputs: Sequence[str], listed: bytes = b"") -> list[str]:
    """Return the names of the sources behind words."""
    return [source.name for source in find_inputs(inputs, io.BytesIO(listed))]


def read_all(found: Iterator[LoadedImage]) -> list[tuple[str, bytes | str]]:
    """Return each source's bytes, or its problem."""
    rows: list[tuple[str, bytes | str]] = []
    for one in found:
        try:
            rows.append((one.name, one.read()))
        except ImageReadError as error:
            rows.append((one.name, str(error)))
    return rows


def test_files_folders_patterns_and_lists_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words come in their order, a folder's photos by path without hidden ones, a list's as they stand in it."""
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
    assert names(["[1].png"]) == ["[1].png"]  # a file of that name goes before the pattern
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
        ("empty", r"empty: the folder has no image \(.bmp"),
        ("text.zip", "text.zip: cannot be read as an archive"),
        ("text.tar.gz", "text.tar.gz: cannot be read as an archive"),
        ("none.zip", "none.zip: the archive has no image"),
        ("-", "the list of images is empty"),
    ],
)
def test_inputs_without_an_image_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, message: str
) -> None:
    """What names nothing is an error of one line, before any work."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name in ("text.zip", "text.tar.gz", "empty/note.txt"):
        Path(name).write_text("hello")
    with zipfile.ZipFile("none.zip", "w") as archive:
        archive.writestr("note.txt", "hello")
    with pytest.raises(DataError, match=message):
        find_inputs([word], NOTHING)


def test_archives_are_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members come in the archive's order, links are followed nowhere, nothing is written, damage is a row."""
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name in ("z/2.png", "../../up.jpg", "1.png", "note.txt", "__MACOSX/1.png", ".h/3.png"):
            archive.writestr(name, name)
    data = bytearray(Path("a.zip").read_bytes())
    data[data.index(b"1.png1.png") + 5] ^= 1  # the contents of the member 1.png: its checksum fails
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
    assert "more than 5 bytes" in str(read_all(load_inputs(find_inputs(["a.zip"], NOTHING)))[0][1])
    Path("long.png").write_bytes(b"123456")
    assert read_all(load_inputs(find_inputs(["long.png"], NOTHING))) == [
        ("long.png", "the file has 6 bytes; at most 5 are read")
    ]


def test_links_in_an_archive_are_followed_inside_it(tmp_path: Path) -> None:
    """Hard links, which tar makes of files with two names, and symbolic ones give what they lead to, or a reason."""
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
def test_a_cut_archive_is_refused(tmp_path: Path, kind: str) -> None:
    """Python takes a damaged header for the end, and would leave out what comes behind it without a word."""
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


def test_a_pipe_among_the_inputs_is_a_row(tmp_path: Path) -> None:
    """Nothing waits for a writer that may never come."""
    os.mkfifo(tmp_path / "pipe.png")
    (row,) = read_all(load_inputs(find_inputs([str(tmp_path / "pipe.png")], NOTHING)))

    assert row[1] == "not a regular file"


def test_a_locked_archive_has_rows_with_the_reason(tmp_path: Path) -> None:
    """A member that needs a password is a row that says so."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.png", "x")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption
    (tmp_path / "a.zip").write_bytes(bytes(data))
    (row,) = read_all(load_inputs(find_inputs([str(tmp_path / "a.zip")], NOTHING)))

    assert "is encrypted" in str(row[1])


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an output, whatever its format, numbers as numbers."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".parquet":
        return list(parquet.read_table(path).to_pylist())
    header, lines = read_foreign_csv(path, "")
    rows: list[dict[str, Any]] = [dict(zip(header, line, strict=True)) for line in lines]
    for row in rows:
        for name in header:
            if name.startswith("confidence"):
                row[name] = float(row[name]) if row[name] else None
            elif name.startswith("predicted"):
                row[name] = row[name] or None
    return rows


@pytest.fixture
def odd_photos(photos: Path) -> Path:
    """Photos, among them broken ones and some with names that formats may trip over."""
    data = (photos / "red" / "1.png").read_bytes()
    for name in ('a,b "c".png', "line\nend\r.png", "<i>é.png", "=1+1.png"):
        (photos / "red" / name).write_bytes(data)
    with open(os.fsencode(photos) + b"/\xff.png", "wb") as file:  # noqa: PTH123 - no Path
        file.write(data)
    (photos / "red" / "broken.png").write_bytes(b"")
    return photos


def test_all_formats_say_the_same(
    bundle: Path, odd_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CSV, JSON lines and Parquet hold the same rows, in order, as does standard output; bad images have a reason."""
    outputs = [tmp_path / f"o.{kind}" for kind in ("csv", "jsonl", "parquet")]
    for output in outputs:
        said = run(parse([str(bundle), str(odd_photos), "--top", "2", "--output", str(output)]))
        assert said == f"18 images, 1 of which cannot be read -> {output}"
    run(parse([str(bundle), str(odd_photos), "--top", "2", "--format", "csv"]))
    first, *others = [rows_of(output) for output in outputs]

    assert capsys.readouterr().out.encode("utf-8") == outputs[0].read_bytes()
    assert all(rows == first for rows in others)
    assert list(first[0]) == [
        *("path", "status", "reason", "predicted", "confidence"),
        *("predicted_1", "confidence_1", "predicted_2", "confidence_2"),
    ]
    for row in first:
        assert (row["predicted"], row["confidence"]) == (row["predicted_1"], row["confidence_1"])
    expected = [os.fsencode(source.name).decode("utf-8", "backslashreplace") for source in
                find_inputs([str(odd_photos)], NOTHING)]  # fmt: skip
    assert [row["path"] for row in first] == expected
    (bad,) = [row for row in first if row["status"] == "quarantined"]
    assert (bad["reason"], bad["predicted"], bad["confidence_2"]) == ("zero bytes", None, None)
    assert list(tmp_path.glob("*.partial")) == []


def test_an_unknown_names_its_classes(bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--top`, also the most probable class of what is not answered is in the row."""
    words = [str(bundle), str(photos / "red" / "1.png"), "--top", "2", "--coverage", "0.01"]
    (one,) = load(bundle).predict([photos / "red" / "1.png"])
    run(parse([*words, "--format", "jsonl"]))
    row = json.loads(capsys.readouterr().out)
    run(parse(words))
    (first, probable), _ = ((label, f"{probability:.3f}") for label, probability in one.top(2))

    assert (row["status"], row["predicted"], row["predicted_1"]) == ("unknown", "unknown", first)
    assert row["confidence"] == row["confidence_1"]
    assert f"{probable}  unknown   {probable}  {first}" in capsys.readouterr().out


def test_the_table_is_safe_for_a_terminal(bundle: Path, odd_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line an image, control characters shown as escapes."""
    (odd_photos / "red" / "\x1b[31mred.png").write_bytes((odd_photos / "red" / "1.png").read_bytes())
    run(parse([str(bundle), str(odd_photos)]))
    printed = capsys.readouterr().out

    assert len(printed.splitlines()) == 19
    assert "\x1b" not in printed
    assert "\\x1b[31mred.png" in printed
    assert f"quarantined  {odd_photos}/red/broken.png: zero bytes" in printed


def watch(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Note the names of what is predicted; stop after so many."""
    seen: list[str] = []
    predict_each = Model.predict_each

    def watched(self: Model, images: Any, **options: Any) -> Iterator[Any]:
        for one in predict_each(self, images, **options):
            if len(seen) == stop_after:
                raise KeyboardInterrupt
            seen.append(one.name)
            yield one

    monkeypatch.setattr(Model, "predict_each", watched)
    return seen


def test_a_stopped_job_goes_on(bundle: Path, odd_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command predicts what is missing or has changed, and ends with the bytes of one that was not stopped."""
    output, whole = tmp_path / "o.csv", tmp_path / "whole.csv"
    words = [str(bundle), str(odd_photos), "--coverage", "0.9", "--output"]
    run(parse([*words, str(whole)]))
    with monkeypatch.context() as patch:
        seen = watch(patch, stop_after=7)
        with pytest.raises(KeyboardInterrupt):
            run(parse([*words, str(output)]))
    assert len(seen) == 7
    assert not output.exists()
    journal = output.with_name("o.csv.partial")
    journal.write_bytes(journal.read_bytes()[:-5])  # as a kill in the middle of a line leaves it
    os.utime(seen[2], ns=(1, 1))

    again = watch(monkeypatch)
    run(parse([*words, str(output)]))
    everything = [source.name for source in find_inputs([str(odd_photos)], NOTHING)]
    assert sorted(again) == sorted(set(everything) - set(seen[:6]) | {seen[2]})
    assert output.read_bytes() == whole.read_bytes()
    assert not journal.exists()


@pytest.mark.parametrize("changed", [["--coverage", "0.5"], ["--top", "2"], ["another bundle"], ["--coverage", "95"]])
def test_a_stopped_job_with_other_rows_stays(
    bundle: Path,
    odd_photos: Path,
    tmp_path: Path,
    tiny_backbone: BackboneParams,
    monkeypatch: pytest.MonkeyPatch,
    changed: list[str],
) -> None:
    """What was predicted with another coverage, number of classes or model is neither used nor thrown away."""
    output = tmp_path / "o.csv"
    with monkeypatch.context() as patch:
        watch(patch, stop_after=7)
        with pytest.raises(KeyboardInterrupt):
            run(parse([str(bundle), str(odd_photos), "--output", str(output)]))
    other = make_bundle(tiny_backbone, track="finetune", views=1, classes=("one", "two", "three"))  # the same tensors
    words = [str(written(tmp_path / "other", other))] if "another bundle" in changed else [str(bundle), *changed]

    journal = output.with_name("o.csv.partial")
    before = journal.read_bytes()

    with pytest.raises(DataError, match="job with another model, --top or --coverage|expected a fraction above 0"):
        run(parse([*words, str(odd_photos), "--output", str(output)]))
    assert journal.read_bytes() == before
    journal.unlink()
    run(parse([str(bundle), str(odd_photos), "--output", str(output)]))
    assert len(rows_of(output)) == len(find_inputs([str(odd_photos)], NOTHING))


def test_what_could_not_be_read_is_tried_again(
    bundle: Path, odd_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped job keeps predictions only, and those of the same bytes: a time that was set back hides no change."""
    broken, whole = odd_photos / "red" / "broken.png", odd_photos / "red" / "1.png"
    output = tmp_path / "o.jsonl"
    words = [str(bundle), str(broken), str(whole), str(odd_photos / "green" / "1.png"), "--output", str(output)]
    with monkeypatch.context() as patch:
        watch(patch, stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            run(parse(words))
    broken.write_bytes(whole.read_bytes())
    found = whole.stat()
    other = (odd_photos / "blue" / "1.png").read_bytes()
    whole.write_bytes(other[: found.st_size].ljust(found.st_size, b"0"))
    os.utime(whole, ns=(found.st_atime_ns, found.st_mtime_ns))

    again = watch(monkeypatch)
    run(parse(words))
    assert again == [str(broken), str(whole), words[3]]
    assert rows_of(output)[0]["status"] == "ok"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_told_apart(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped job over an archive that has a name twice gives each its own row."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for color in ("red", "green"):
            archive.writestr("1.png", (photos / color / "1.png").read_bytes())
    words = [str(bundle), str(tmp_path / "a.zip"), "--output"]
    run(parse([*words, str(tmp_path / "whole.csv")]))
    with monkeypatch.context() as patch:
        watch(patch, stop_after=1)
        with pytest.raises(KeyboardInterrupt):
            run(parse([*words, str(tmp_path / "o.csv")]))
    run(parse([*words, str(tmp_path / "o.csv")]))

    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_files_that_are_not_the_jobs_own_stay(bundle: Path, photos: Path, tmp_path: Path) -> None:
    """Inputs, archives, the bundle, devices and somebody's file of the journal's name are never written over."""
    photo, archive = photos / "red" / "1.png", tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(photo, "1.png")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to(photo)
    (tmp_path / "o.csv.partial").write_text("precious\n")
    (tmp_path / "p.csv.partial").mkdir()
    before = {path: path.read_bytes() for path in (photo, archive, tmp_path / "o.csv.partial")}
    for output, message in (
        (photo, "is also an input"),
        (archive, "is also an input"),
        (tmp_path / "link.csv", "is also an input"),
        (bundle / "config.json", "lies in the bundle"),
        (tmp_path / "pipe.csv", "is not a regular file"),
        (tmp_path / "o.csv", "or is not a journal"),
        (tmp_path / "p.csv", "p.csv.partial"),
    ):
        with pytest.raises((DataError, OSError), match=message):
            run(parse([str(bundle), str(photo), str(archive), "--format", "csv", "--output", str(output)]))
    assert {path: path.read_bytes() for path in before} == before
    assert (tmp_path / "link.csv").is_symlink()


def test_two_jobs_do_not_share_an_output(tmp_path: Path) -> None:
    """The second is refused while the first writes; damaged lines of a journal are predicted anew."""
    output, key = tmp_path / "o.csv", {"top": 1}
    first = Journal(output, key)
    first.add("a", [1], {"path": "a"})
    first.add("b", [2], {"path": "b"})
    with pytest.raises(DataError, match=r"o\.csv\.partial: another run is writing it"):
        Journal(output, key)
    first.close()
    journal = tmp_path / "o.csv.partial"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[1] + b"\0" * 20 + b"\n" + lines[2])

    again = Journal(output, key)
    assert again.find("a", [1]) == {"path": "a"}
    assert again.find("a", [2]) is again.find("b", [2]) is None
    again.add("b", [2], {"path": "b"})
    again.close()
    assert journal.read_bytes() == b"".join(lines)
    journal.write_bytes(lines[0][:5])  # killed in its first words
    Journal(output, key).close()
    assert not journal.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["b", "x", "--bogus"], "unrecognized arguments: --bogus"),
        (["b"], "the following arguments are required: input"),
        (["b", "x", "--top", "0"], "argument --top: 0 is less than 1"),
        (["b", "x", "--output", "o.xls"], "o.xls: its suffix is no format"),
        (["b", "x", "--format", "parquet"], "--format parquet needs --output FILE"),
        (["b", "x", "--explain", "e", "--output", "o.csv"], "--output cannot be used with --explain"),
        (["b", "x", "--photos", "p"], "--photos can only be used with --explain"),
    ],
)
def test_a_wrong_command_line_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, what is wrong, and where to look."""
    with pytest.raises(SystemExit) as stopped:
        parse(words)
    said = capsys.readouterr().err

    assert stopped.value.code == 2
    assert said.startswith("predict: ")
    assert message in said
    assert said.count("\n") == 1


def test_wrong_places_are_refused_before_any_work(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output that is a folder, a gallery that is there, too many images for a page: told before any model is."""
    monkeypatch.setattr(command, "load", None)
    for words, message in (
        (["--output", str(tmp_path), "--format", "csv"], "is not a regular file; name another output"),
        (["--explain", str(photos)], "exists already"),
        (["--explain", str(tmp_path / "e"), "--photos", "nowhere"], "--photos nowhere: there is no such folder"),
    ):
        with pytest.raises(DataError, match=message):
            run(parse([str(bundle), str(photos), *words]))
    monkeypatch.setattr("headstart.predict.gallery.MAX_IMAGES", 3)
    with pytest.raises(DataError, match="12 images are too many for a page; expected at most 3"):
        run(parse([str(bundle), str(photos), "--explain", str(tmp_path / "e")]))


def test_the_command_as_it_is_called(bundle: Path, photos: Path, tmp_path: Path) -> None:
    """From any folder: rows on standard output, words on standard error, exit code 1 for a bad image if strict."""
    (photos / "red" / "broken.png").write_bytes(b"")
    words = [sys.executable, "-m", "headstart", "predict", str(bundle), "-", "--format", "jsonl", "--strict"]
    listed = "\n".join(str(path) for path in sorted((photos / "red").iterdir()))
    done = subprocess.run(
        words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, input=listed, capture_output=True, text=True
    )

    assert done.returncode == 1
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == [*["ok"] * 4, "quarantined"]
    assert done.stderr == "predict: 5 images, 1 of which cannot be read (--strict)\n"


def test_names_that_a_terminal_cannot_show(bundle: Path, photos: Path) -> None:
    """They are shown by their codes; the job goes on."""
    shutil.copy(photos / "red" / "1.png", photos / "red" / "\N{HONEYBEE}.png")
    done = subprocess.run(
        [sys.executable, "-m", "headstart", "predict", str(bundle), str(photos / "red" / "\N{HONEYBEE}.png")],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
    )

    assert done.returncode == 0, done.stderr
    assert rb"\U0001f41d.png" in done.stdout
