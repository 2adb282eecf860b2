"""The command `predict`: a row for every image, in order, in every format; a stopped job can be resumed."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from headstart.backbone.params import BackboneParams
from headstart.base.csv_files import read_foreign_csv
from headstart.base.errors import DataError
from headstart.predict.commands import predict as command
from headstart.predict.commands.predict import parse, run
from headstart.predict.inputs import find_inputs
from headstart.predict.journal import Journal
from headstart.predict.model import Model, load
from headstart.predict.prediction import utf8_text
from tests.support.bundles import make_bundle, written
from tests.support.source import ROOT

NOTHING = io.BytesIO()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: BackboneParams) -> Path:
    """A fine-tuned bundle, which needs no weights file."""
    return written(tmp_path_factory.mktemp("bundle") / "b", make_bundle(tiny_backbone, track="finetune", views=1))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an output in any format, with numbers as floats."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".parquet":
        return list(parquet.read_table(path).to_pylist())
    header, lines = read_foreign_csv(path, "")
    rows: list[dict[str, Any]] = [dict(zip(header, line, strict=True)) for line in lines.values()]
    for row in rows:
        for name in header:
            if name.startswith("confidence"):
                row[name] = float(row[name]) if row[name] else None
            elif name.startswith("predicted"):
                row[name] = row[name] or None
    return rows


@pytest.fixture
def odd_photos(photos: Path) -> Path:
    """Photos, one of which is broken and some of which have names that are difficult to write."""
    data = (photos / "red" / "1.png").read_bytes()
    for name in ('a,b "c".png', "line\nend\r.png", "<i>é.png", "=1+1.png"):
        (photos / "red" / name).write_bytes(data)
    with open(os.fsencode(photos) + b"/\xff.png", "wb") as file:  # noqa: PTH123 - no Path
        file.write(data)
    (photos / "red" / "broken.png").write_bytes(b"")
    return photos


def test_all_formats_hold_the_same_rows(
    bundle: Path, odd_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CSV, JSON lines, Parquet and standard output hold the same rows in order; a bad image has a reason."""
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


def test_help_leaves_the_process_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` prints the options and changes no signal handler, so a caller in the same process is not affected."""
    before = signal.getsignal(signal.SIGPIPE)
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])

    assert caught.value.code == 0
    assert "usage: headstart predict" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGPIPE) == before


def test_an_unknown_image_lists_its_classes(bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--top` the row of an `unknown` image holds its most probable classes too."""
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
    """There is one line per image, and control characters are escaped."""
    (odd_photos / "red" / "\x1b[31mred.png").write_bytes((odd_photos / "red" / "1.png").read_bytes())
    run(parse([str(bundle), str(odd_photos)]))
    printed = capsys.readouterr().out

    assert len(printed.splitlines()) == 19
    assert "\x1b" not in printed
    assert "\\x1b[31mred.png" in printed
    assert f"quarantined  {odd_photos}/red/broken.png: zero bytes" in printed


def watch(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Record the names of the predicted images; raise KeyboardInterrupt after `stop_after` of them."""
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


def test_a_stopped_job_is_resumed(
    bundle: Path, odd_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command predicts only missing and changed images, and writes the bytes of an unstopped job."""
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
    journal.write_bytes(journal.read_bytes()[:-5])  # a kill has cut the last line
    os.utime(seen[2], ns=(1, 1))

    again = watch(monkeypatch)
    run(parse([*words, str(output)]))
    everything = [source.name for source in find_inputs([str(odd_photos)], NOTHING)]
    assert sorted(again) == sorted(set(everything) - set(seen[:6]) | {seen[2]})
    assert output.read_bytes() == whole.read_bytes()
    assert not journal.exists()


@pytest.mark.parametrize("changed", [["--coverage", "0.5"], ["--top", "2"], ["another bundle"], ["--coverage", "95"]])
def test_a_journal_of_another_job_is_kept(
    bundle: Path,
    odd_photos: Path,
    tmp_path: Path,
    tiny_backbone: BackboneParams,
    monkeypatch: pytest.MonkeyPatch,
    changed: list[str],
) -> None:
    """Rows that were predicted with another coverage, --top or model are neither used nor deleted."""
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


def test_unreadable_images_are_tried_again(
    bundle: Path, odd_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed job tries bad images again, and notices a change even if the modification time was reset."""
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
def test_archive_members_with_the_same_name_have_their_own_rows(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a stopped job over an archive that holds a name twice."""
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


def test_other_files_are_never_overwritten(bundle: Path, photos: Path, tmp_path: Path) -> None:
    """Inputs, archives, the bundle, pipes and a foreign file with the journal's name stay as they are."""
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


def test_two_jobs_cannot_share_an_output(tmp_path: Path) -> None:
    """The second job is an error while the first writes. Lines after a damaged one are predicted again."""
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
    journal.write_bytes(lines[0][:5])  # killed while it wrote the header
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
def test_a_wrong_command_line_gives_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and the line says what is wrong and how to list the options."""
    with pytest.raises(SystemExit) as stopped:
        parse(words)
    said = capsys.readouterr().err

    assert stopped.value.code == 2
    assert said.startswith("predict: ")
    assert message in said
    assert said.count("\n") == 1


def test_wrong_folders_are_errors_before_the_model_is_loaded(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output that is a folder or lies below a file, an existing gallery folder, or too many images for a page."""
    monkeypatch.setattr(command, "load", None)
    (tmp_path / "file").touch()
    for words, message in (
        (["--output", str(tmp_path), "--format", "csv"], "is not a regular file; name another output"),
        (["--output", str(tmp_path / "file" / "x.csv")], "file is a file; expected a folder. Name another output"),
        (["--explain", str(photos)], "exists already"),
        (["--explain", str(tmp_path / "e"), "--photos", "nowhere"], "--photos nowhere: there is no such folder"),
    ):
        with pytest.raises(DataError, match=message):
            run(parse([str(bundle), str(photos), *words]))
    monkeypatch.setattr("headstart.predict.gallery.MAX_IMAGES", 3)
    with pytest.raises(DataError, match="12 images are too many for a page; expected at most 3"):
        run(parse([str(bundle), str(photos), "--explain", str(tmp_path / "e")]))


@pytest.mark.slow
def test_the_predict_command(bundle: Path, photos: Path, tmp_path: Path) -> None:
    """It runs in any folder; rows go to standard output and messages to standard error; --strict gives exit code 1."""
    (photos / "red" / "broken.png").write_bytes(b"")
    words = [sys.executable, "-m", "headstart", "predict", str(bundle), "-", "--format", "jsonl", "--strict"]
    listed = "\n".join(str(path) for path in sorted((photos / "red").iterdir()))
    done = subprocess.run(
        words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, input=listed, capture_output=True, text=True
    )

    assert done.returncode == 1
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == [*["ok"] * 4, "quarantined"]
    assert done.stderr == "predict: 5 images, 1 of which cannot be read (--strict)\n"


@pytest.mark.slow
def test_names_that_the_terminal_cannot_show(bundle: Path, photos: Path) -> None:
    """They are shown as escapes."""
    shutil.copy(photos / "red" / "1.png", photos / "red" / "\N{HONEYBEE}.png")
    done = subprocess.run(
        [sys.executable, "-m", "headstart", "predict", str(bundle), str(photos / "red" / "\N{HONEYBEE}.png")],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
    )

    assert done.returncode == 0, done.stderr
    assert rb"\U0001f41d.png" in done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [("é.png", "é.png"), ("\udcff.png", r"\xff.png"), ("\ud800.png", r"\ud800.png"), ("\udcff\ud800", r"\udcff\ud800")],
)
def test_names_that_are_not_utf8_are_shown_as_bytes(text: str, expected: str) -> None:
    r"""Tables, pages and JSON show a byte that is not UTF-8 as `\xff`; other halves of surrogate pairs stay escapes."""
    assert utf8_text(text) == expected
