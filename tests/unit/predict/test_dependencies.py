"""Dependencies: the library runs from a copy, with the wheel's core dependencies; a missing extra is named."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from headstart.backbone.params import BackboneParams
from tests.support.bundles import make_bundle, written
from tests.support.source import ROOT

# Packages of the project's environment that the wheel installs only with an extra, or never.
OPTIONAL = ("dvc", "fastapi", "pyarrow", "python_multipart", "starlette", "uvicorn")
WITHOUT = f"""
import sys
class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hidden = name.split(".")[0] in {OPTIONAL}
        return None if hidden else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
from headstart.__main__ import main
main()
"""


@pytest.fixture
def bundle(tmp_path: Path, tiny_backbone: BackboneParams) -> Path:
    """A fine-tuned bundle, which needs no weights file."""
    return written(tmp_path / "b", make_bundle(tiny_backbone, track="finetune", views=1))


def run_without_extras(folder: Path, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command from a copy of the library alone, as if no optional package were installed."""
    if not (folder / "site").exists():
        shutil.copytree(ROOT / "headstart", folder / "site" / "headstart")
    environment = os.environ | {"PYTHONPATH": str(folder / "site"), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_predict_and_export_need_no_extra(bundle: Path, photos: Path, tmp_path: Path) -> None:
    """Rows, the gallery page and exports need neither DVC nor an extra nor the project's folder."""
    rows = run_without_extras(tmp_path, ["predict", str(bundle), str(photos), "--explain", "page"])
    export = run_without_extras(tmp_path, ["export", str(bundle), "m.onnx", "--to", "onnx", "--check", str(photos)])

    assert rows.returncode == 0, rows.stderr
    assert len(rows.stdout.splitlines()) == 12
    assert (tmp_path / "page" / "index.html").is_file()
    assert export.returncode == 0, export.stderr


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (["serve", "b"], "uvicorn", "serve"),
        (["predict", "b", "photos", "--output", "o.parquet"], "pyarrow", "parquet"),
    ],
)
def test_a_missing_extra_is_named(tmp_path: Path, words: list[str], module: str, extra: str) -> None:
    """One line names the module and the extra, before any work."""
    done = run_without_extras(tmp_path, words)

    assert done.returncode == 1
    assert f"has no module {module!r}: run `pip install 'headstart[{extra}]'`" in done.stderr
    assert done.stderr.count("\n") == 1
