"""All of params.yaml is checked strictly, and one message lists every mistake."""

import os
from pathlib import Path

import pytest

from headstart.base.errors import ParamsError
from headstart.base.machine import read_runtime
from headstart.imaging.formats import known_extensions
from stages.extract.params import Params as ExtractParams
from stages.head.params import Params as HeadParams
from stages.params import load_params
from tests.support.source import ROOT

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")


def edited(tmp_path: Path, *pairs: tuple[str, str]) -> Path:
    """Write params.yaml with some of its text replaced."""
    text = PARAMS
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_params_are_valid() -> None:
    """The params.yaml of the project passes its own check, and a stage gets its section's values."""
    params = load_params(HeadParams, ROOT / "params.yaml")

    assert params.head.c == "auto"
    assert params.head.folds == 5


def test_every_mistake_is_in_one_message(tmp_path: Path) -> None:
    """One message lists a typo, a wrong type, a value out of range and both forbidden keys, each with what to do."""
    path = edited(
        tmp_path,
        ("  folds: 5", "  fold: 5"),
        ("  folds: 10", "  fold: 10"),
        ("  batch: auto", "  batch: '32'"),
        ("  test_fraction: 0.25", "  test_fraction: 1.25"),
        ("  px: auto", "  px: auto\n  size: 3"),
        ("  max_iter: 1000", "  max_iter: 1000\n  nfiles: 1"),
    )

    with pytest.raises(ParamsError) as caught:
        load_params(HeadParams, path)

    message = str(caught.value)
    assert f"{path}: 8 bad key(s)" in message
    assert "head.fold: unknown key (did you mean 'folds'?)" in message
    assert "head.folds: expected a value; found nothing" in message
    assert "runtime.batch: expected a valid integer or 'auto'; found '32'" in message
    assert "split.test_fraction: expected less than 1; found 1.25" in message
    assert "transform.size: expected another name" in message
    assert "head.nfiles: expected another name" in message


@pytest.mark.parametrize("section", ["backbone", "head"])
def test_a_key_of_an_earlier_edition_is_told_with_its_new_name(tmp_path: Path, section: str) -> None:
    """If a section still has `taps`, the error says that the key is now called `layers`."""
    before, after = PARAMS.split(f"\n{section}:\n")
    path = tmp_path / "params.yaml"
    path.write_text(f"{before}\n{section}:\n{after.replace('  layers: auto', '  taps: auto', 1)}", encoding="utf-8")

    with pytest.raises(ParamsError, match=rf"{section}\.taps: .* \(this key is now called 'layers': rename it"):
        load_params(HeadParams, path)


def test_mistakes_in_other_stages_sections_are_told(tmp_path: Path) -> None:
    """A mistake in a section that a stage does not read stops it too, so that no later stage fails after slow work."""
    path = edited(tmp_path, ("  c: auto", "  c: -1"))

    with pytest.raises(ParamsError, match=r"head\.c: expected greater than or equal to .* or 'auto'; found -1"):
        load_params(ExtractParams, path)


def test_unknown_and_missing_sections_are_told(tmp_path: Path) -> None:
    """A misspelt section is named, with the section that was probably meant."""
    path = edited(tmp_path, ("\nsplit:", "\nspilt:"))

    with pytest.raises(ParamsError, match="did you mean 'split'") as caught:
        load_params(HeadParams, path)

    assert "split.seed: expected a value; found nothing" in str(caught.value)


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1"])
def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path, text: str) -> None:
    """`1e-3` is a number (YAML 1.2), as it is for `dvc exp run -S`."""
    params = load_params(HeadParams, edited(tmp_path, ("  c: auto", f"  c: {text}")))

    assert params.head.c == float(text)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("  weights: auto", "  weights: a/b.pth")], "sha256sum a/b.pth"),
        ([("  weights_sha256:", f"  weights_sha256: {'a' * 64}")], "only if weights are a file"),
        (
            [("  weights: auto", "  weights: https://h.co/W.PTH?download=true")],
            "weights_sha256 if weights are a file",
        ),
        *(
            ([("  path: data/digits", f"  path: {path}")], "a folder that holds nothing but the data set")
            for path in (
                "data/",
                "/",
                "..",
                ".",
                "./stages",
                "data/../models/head",
                ".git",
                str(ROOT),
                str(ROOT.parent),
            )
        ),
        (
            [("  - bmp\n", "  - jxl\n")],
            f"extensions of image formats ({', '.join(known_extensions())}); found ['jxl']",
        ),
        ([("  memory: 1GiB", "  memory: lots")], "runtime.memory"),
        ([("  c: auto", "  c: .inf")], "head.c"),
        (
            [("  kind: auto\n  # Inverse", "  kind: sgd\n  # Inverse"), ("  c: auto", "  c: 0.01")],
            "found 0.01 (-S head.c=auto)",
        ),
        ([("  class_weights: none", "  class_weights: {8: 3.0}")], "in the file (-S takes no numbers as names)"),
        ([("\nhead:", "\nhead: 3\nhood:")], "head: expected keys below it; found 3"),
    ],
)
def test_values_that_cannot_work_are_refused(tmp_path: Path, pairs: list[tuple[str, str]], words: str) -> None:
    """Values of the right type that cannot work are errors before any work."""
    with pytest.raises(ParamsError) as caught:
        load_params(ExtractParams, edited(tmp_path, *pairs))

    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1", "a: 1\na: 2", "a: &a [*a]", "a: " + "9" * 5000])
def test_files_that_are_not_sections_are_refused(tmp_path: Path, text: str) -> None:
    """Broken YAML, a list and a repeated section give an error that names the file."""
    path = tmp_path / "params.yaml"
    path.write_text(text)

    with pytest.raises(ParamsError, match=r"params\.yaml"):
        load_params(HeadParams, path)


def test_missing_file_says_where_to_run(tmp_path: Path) -> None:
    """If a stage is started in another folder, the error says to run it from the project's root."""
    with pytest.raises(ParamsError, match="Run from the project's root folder"):
        load_params(HeadParams, tmp_path / "params.yaml")


def test_a_pipe_in_its_place_is_refused(tmp_path: Path) -> None:
    """A pipe at the path of params.yaml is an error at once; nothing waits for somebody to write into it."""
    os.mkfifo(tmp_path / "params.yaml")

    with pytest.raises(ParamsError, match="params.yaml: cannot be read .not a regular file"):
        load_params(HeadParams, tmp_path / "params.yaml")


def test_a_command_that_reads_the_machines_section_lists_its_mistakes(tmp_path: Path) -> None:
    """If only the section `runtime` is read, the error lists its mistakes as the check of the whole file does."""
    path = edited(tmp_path, ("  batch: auto", "  batch: '32'"), ("  store: auto", "  stor: auto"))

    with pytest.raises(ParamsError) as caught:
        read_runtime(path)

    message = str(caught.value)
    assert f"{path}: runtime.batch: expected a valid integer or 'auto'; found '32'" in message
    assert "runtime.stor: unknown key (did you mean 'store'?)" in message
