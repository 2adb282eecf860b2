"""A stage whose params, code or tables are edited while it runs does not end well."""

import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from headstart.base.errors import DataError
from headstart.base.files import code_digests
from stages.running import edited_code, run_stage, unchanged
from tests.support.source import ROOT


@pytest.fixture(autouse=True)
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a copy of params.yaml in the working directory; restore the handler of SIGTERM that a run sets."""
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield path
    signal.signal(signal.SIGTERM, before)


def edit(path: Path, old: str, new: str) -> Callable[[], None]:
    """Return a function that edits a file."""
    text = path.read_text()
    assert old in text

    def main() -> None:
        path.write_text(text.replace(old, new))

    return main


@pytest.mark.parametrize("stage", ["finetune", "report"])
def test_an_edit_of_its_own_params_fails_the_stage(stage: str, params: Path) -> None:
    """If a section that the stage tracks is edited while it runs, the message names the section and what to run."""
    with pytest.raises(SystemExit) as caught:
        run_stage(stage, edit(params, "  label_smoothing: 0.0", "  label_smoothing: 0.9"))

    assert str(caught.value) == (
        f"{stage}: params.yaml (finetune): edited while this stage ran. Its results may be those of the old content. "
        "Run: dvc repro"
    )


@pytest.mark.parametrize(
    ("stage", "old", "new"),
    [
        ("head", "  label_smoothing: 0.0", "  label_smoothing: 0.9"),
        ("finetune", "  workers: auto", "  workers: 1"),
        ("report", "  workers: auto", "  workers: 1"),
        ("finetune", "finetune:", "# a comment\nfinetune:"),
    ],
)
def test_other_edits_do_no_harm(stage: str, old: str, new: str, params: Path) -> None:
    """Sections of other stages, `runtime` and comments may be edited at any time."""
    run_stage(stage, edit(params, old, new))


def test_params_that_are_removed_fail_the_stage(params: Path) -> None:
    """A params file that is no longer there is an error too, not a stack trace."""
    with pytest.raises(SystemExit, match=r"head: params\.yaml: expected sections"):
        run_stage("head", params.unlink)


def test_an_edit_of_its_code_fails_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a module of a package that the stage has imported is edited while it runs, the stage fails."""
    digests = code_digests("headstart/base", "stages/split")
    sequence = iter([digests, digests | {"headstart/base/files.py": "edited"}])
    monkeypatch.setattr("stages.running.code_digests", lambda *_: next(sequence))

    with pytest.raises(SystemExit, match=r"head: headstart/base/files\.py: edited while this stage ran"):
        run_stage("head", lambda: None)


def test_only_modules_of_the_stage_and_imported_ones_count() -> None:
    """A module of the stage itself counts if it was edited, removed or added; others only if they were imported."""
    before = {"headstart/base/csv_files.py": "a", "stages/split/gone.py": "b", "stages/index/build.py": "c"}
    before |= {"headstart/predict/absent.py": "e", "stages/params.py": "f"}
    after = {"headstart/base/csv_files.py": "x", "stages/split/new.py": "d", "stages/index/build.py": "y"}
    after |= {"headstart/predict/absent.py": "z", "stages/params.py": "w"}

    changed = ["headstart/base/csv_files.py", "stages/params.py", "stages/split/gone.py", "stages/split/new.py"]
    assert edited_code("split", before, after) == changed
    assert edited_code("split", before, before) == []


@pytest.mark.parametrize("is_edited", [False, True])
def test_what_the_run_kept_is_removed_only_if_all_is_well(is_edited: bool, params: Path) -> None:
    """The clean-up that `main` returns runs after the check, so that an edit does not cost what was computed."""
    cleaned: list[bool] = []

    def main() -> Callable[[], None]:
        if is_edited:
            edit(params, "  label_smoothing: 0.0", "  label_smoothing: 0.9")()
        return lambda: cleaned.append(True)

    with pytest.raises(SystemExit) if is_edited else nullcontext():
        run_stage("finetune", main)

    assert cleaned == [True] * (not is_edited)


@pytest.mark.parametrize("content", [None, "path,label\n"])
def test_a_table_that_is_edited_meanwhile_is_an_error(content: str | None, tmp_path: Path) -> None:
    """A file that changes, appears or disappears while it is used is named at the end."""
    path = tmp_path / "fixes.csv"
    if content is not None:
        path.write_text(content)
    with unchanged(path):
        pass
    with pytest.raises(DataError, match=r"fixes\.csv: edited while this stage ran"), unchanged(path):
        path.write_text("path,label\na.jpg,bee\n")
