"""The command `headstart compare`: what it prints, writes and returns; and that it changes nothing."""

import base64
import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from headstart.base.errors import DataError
from headstart.revisions import command
from headstart.tables.index import IndexRow
from headstart.tables.rows import write_rows
from tests.support.revisions import RevisionsProject, predictions
from tests.unit.revisions.conftest import images

HOSTILE = "<b>|`@admin`\x1b[31m</script>"


@pytest.fixture
def inside(project: RevisionsProject, monkeypatch: pytest.MonkeyPatch) -> RevisionsProject:
    """Return the project, which is the working directory."""
    monkeypatch.chdir(project.root)
    return project


def stamps(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return time of change and content of every file outside DVC's temporary folder."""
    files = (path for path in root.rglob("*") if path.is_file() and ".dvc/tmp" not in str(path))
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_worse_revision_is_told_and_ends_with_code_3(
    inside: RevisionsProject, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table has both accuracies, the difference, the p-value, the params; nothing in the project changes."""
    before = stamps(inside.root)

    with pytest.raises(SystemExit) as ended:
        command.main(["good", "--fail-if-worse"])

    said = capsys.readouterr().out
    assert ended.value.code == 3
    assert "head: worse (p 1.9e-06, exact McNemar test)" in said
    assert re.search(r"accuracy +0\.8333 +0\.5000 +-0\.3333 \(-0\.\d+ to -0\.\d+\)", said)
    assert re.search(r"head\.c +1\.0 +2\.0", said)
    assert "Images: 10 removed" in said
    assert stamps(inside.root) == before


@pytest.mark.usefixtures("inside")
def test_the_other_way_round_it_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    """Against a worse revision, --fail-if-worse ends well."""
    command.main(["workspace", "good", "--fail-if-worse"])

    assert "head: better" in capsys.readouterr().out


@pytest.mark.usefixtures("inside")
def test_without_a_revision_head_is_compared_with_the_workspace(capsys: pytest.CaptureFixture[str]) -> None:
    """No words mean: what did I change since the last commit? Here: nothing."""
    command.main([])

    said = capsys.readouterr().out
    assert said.startswith("HEAD (")
    assert "-> workspace" in said
    assert "Nothing: params, code, data and images are the same" in said


def test_test_sets_that_differ_are_told_before_the_numbers(
    inside: RevisionsProject, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where only some test images are common, the first line after the verdict says so."""
    inside.write(predictions([True] * 40, first=30), images=images())

    command.main(["good"])

    said = capsys.readouterr().out
    assert "The test sets differ: 30 images only at good" in said
    assert said.index("The test sets differ") < said.index("accuracy")
    assert "Compared are the 30 images of both" in said


def test_a_track_of_one_revision_is_named(inside: RevisionsProject, capsys: pytest.CaptureFixture[str]) -> None:
    """A track that one revision lacks is told, and the other one is compared."""
    inside.write(predictions([True] * 60), predictions([True] * 60), images=images())

    command.main(["good"])

    said = capsys.readouterr().out
    assert "finetune: only workspace has it" in said
    assert "head: better" in said


@pytest.mark.usefixtures("inside")
def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON holds every image that changed, the numbers, and the verdict."""
    command.main(["good", "--json"])

    found = json.loads(capsys.readouterr().out)
    (track,) = found["tracks"]
    assert found["is_worse"]
    assert (track["verdict"], track["num_images"], len(track["newly_wrong"])) == ("worse", 60, 20)
    assert track["accuracy"]["difference"] == pytest.approx(-20 / 60)
    assert found["changes"]["params"][0] == {"name": "head.c", "before": 1.0, "after": 2.0}


def test_hostile_labels_command_neither_terminal_nor_markdown_nor_page(
    inside: RevisionsProject, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Labels are code in Markdown, escaped in HTML, and escaped on a terminal; a bar ends no cell."""
    classes = ["ant", HOSTILE]
    for right in ([False] * 40, [True] * 40):
        inside.write(predictions(right, classes=classes), images=images())
        inside.commit()
    page = tmp_path / "page.html"

    command.main(["HEAD~1", "--markdown", "--html", str(page)])
    markdown = capsys.readouterr().out
    command.main(["HEAD~1"])
    text = capsys.readouterr().out

    assert "\x1b" not in markdown + text
    assert "``<b>\\|`@admin`\\x1b[31m</script>``" in markdown
    rows = [line for line in markdown.splitlines() if "@admin" in line]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5, 7}
    assert "<b>" not in page.read_text()
    assert "&lt;b&gt;" in page.read_text()


def test_the_page_shows_the_photos_that_changed(
    inside: RevisionsProject, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A photo whose bytes are those of the index is shown; one that is missing or changed is named only."""
    photos = inside.root / "photos"
    photos.mkdir()
    digests = []
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (20, 20), colour).save(photos / f"{number}.png")
        digests.append(hashlib.sha256((photos / f"{number}.png").read_bytes()).hexdigest())
    (photos / "1.png").write_bytes(b"changed")
    for right in ([True] * 10, [False] * 10):
        found = predictions(right)
        inside.write(dataclasses.replace(found, digests=[*digests, *found.digests[2:]]), images=images())
        inside.commit()
    rows = [IndexRow(f"{number}.png", digests[number], "PNG", 20, 20, "ok", "") for number in range(2)]
    write_rows(inside.root / "data/index.csv", rows, IndexRow)
    page = tmp_path / "page.html"

    command.main(["HEAD~1", "--html", str(page)])

    text = page.read_text()
    assert "Newly wrong: 10" in text
    (shown,) = re.findall(r'src="data:image/webp;base64,([^"]+)"', text)
    assert Image.open(io.BytesIO(base64.b64decode(shown))).convert("RGB").getpixel((5, 5)) == (255, 0, 0)
    assert text.count("not on this machine") == 9
    assert "page.html" in capsys.readouterr().err


def test_experiments_are_ranked(inside: RevisionsProject, capsys: pytest.CaptureFixture[str]) -> None:
    """--experiments ranks what DVC keeps against the first revision, the best first; a broken one is left out."""
    for seed, num_right in enumerate((55, 20, 31)):
        inside.write(predictions([True] * num_right + [False] * (60 - num_right), seed=seed), images=images())
        inside.run("dvc", "exp", "save", "--name", f"exp-{num_right}")
    inside.replace("predictions/head.csv", b"other\n1\n")
    inside.run("dvc", "exp", "save", "--name", "exp-broken")
    inside.run("git", "checkout", "--quiet", "--", ".")

    command.main(["HEAD", "--experiments"])
    said, errors = capsys.readouterr()
    command.main(["HEAD", "exp-20", "exp-55", "--json"])
    (ranking,) = json.loads(capsys.readouterr().out)["rankings"]

    assert "exp-broken is left out" in errors
    names = re.findall(r"^(\S+) +\d\.\d+ \(", said, flags=re.MULTILINE)
    assert names == ["exp-55", "exp-31", "HEAD", "exp-20"]
    assert "Clearly better than HEAD: exp-55" in said
    assert "Clearly worse than HEAD: exp-20" in said
    assert [row["name"] for row in ranking["rows"]] == ["exp-55", "HEAD", "exp-20"]


def test_a_page_without_a_folder_is_told_first(inside: RevisionsProject, tmp_path: Path) -> None:
    """A file in a folder that does not exist is a mistake that is found before anything is read."""
    (inside.root / "dvc.lock").unlink()

    with pytest.raises(DataError, match=r"--html .*page.html: there is no folder"):
        command.main(["good", "--html", str(tmp_path / "nowhere" / "page.html")])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a", "b", "c", "--fail-if-worse"], "need two revisions"),
        (["--markdown", "--json"], "not allowed with"),
        (["--track", "both"], "invalid choice"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake ends with code 2 and one line."""
    with pytest.raises(SystemExit) as ended:
        command.parse(words)

    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
