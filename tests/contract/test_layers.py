"""The house rules: arrows point one way, and nothing happens at import time."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source import ROOT, import_closure, imported_modules

STAGES = ROOT / "stages"
MODULES = sorted(STAGES.rglob("*.py"))
WITHOUT_TORCH = ("ants_bees", "compare", "digits", "evaluate", "index", "projection", "report", "split")


def room(file: Path) -> str:
    """Return the folder below stages/ that a module lies in."""
    return file.relative_to(STAGES).parts[0]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_imports_the_core_and_itself_only(file: Path) -> None:
    """No room imports another, and the core imports no room."""
    allowed = {"core", room(file)}
    found = {name.split(".")[1] for name in imported_modules(file) if name.startswith("stages.")}

    assert found <= allowed


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_rooms_that_need_no_network_import_no_torch(name: str) -> None:
    """Counting files or scoring predictions must not cost the seconds that torch takes to import."""
    files = import_closure(STAGES / name / "__main__.py")
    heavy = {module for file in files for module in imported_modules(file) if module.split(".")[0] in HEAVY}

    assert heavy == set()


def test_the_head_takes_torch_to_a_gpu_only() -> None:
    """Trying another head takes seconds: its modules import torch in one place, which only a GPU needs."""
    importing = {
        file.relative_to(STAGES).as_posix()
        for file in import_closure(STAGES / "head" / "__main__.py")
        if any(module.split(".")[0] in HEAVY for module in imported_modules(file))
    }
    code = "import sys, stages.head.train; assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert importing == {"core/runtime.py", "core/linear/gpu.py"}
    assert done.returncode == 0, done.stderr


HEAVY = {"timm", "torch", "torchvision"}


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_happens_at_import_time(file: Path) -> None:
    """A module's top level defines and imports; it calls nothing but a few that only build values."""
    pure = {"Annotated", "BeforeValidator", "ConfigDict", "Field", "Path", "PurePosixPath", "TypeVar", "dataclass",
            "field", "field_validator", "frozenset", "main", "model_validator", "run_room"}  # fmt: skip
    tree = ast.parse(file.read_text(encoding="utf-8"))
    statements = (
        ast.Expr,
        ast.Import,
        ast.ImportFrom,
        ast.Assign,
        ast.AnnAssign,
        ast.FunctionDef,
        ast.ClassDef,
        ast.If,
    )
    assert all(isinstance(node, statements) for node in tree.body)
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]:
        function.body = []  # runs later; its decorators and defaults run now
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}

    assert called <= pure
    assert "os.environ" not in ast.unparse(tree)


def test_mains_stay_thin() -> None:
    """A stage's entry reads params, calls its room and writes: at most about 50 lines."""
    lengths = {file.parent.name: len(file.read_text().splitlines()) for file in STAGES.glob("*/__main__.py")}

    assert {name: length for name, length in lengths.items() if length > 50} == {}


def test_modules_stay_short() -> None:
    """A module that grows past 300 lines wants splitting."""
    assert [file.name for file in MODULES if len(file.read_text().splitlines()) > 300] == []


def test_packages_hold_a_docstring_only() -> None:
    """An `__init__.py` has no code, so it is no dependency that dvc.yaml would have to name."""
    for file in STAGES.rglob("__init__.py"):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        assert [type(node) for node in body] == [ast.Expr], file


def test_every_room_starts_from_another_working_directory(tmp_path: Path) -> None:
    """Started where there is no params.yaml, each room says what it wants, without a stack trace."""
    for name in ("index", "split", "extract", "head", "finetune", "evaluate", "compare", "projection", "report"):
        code = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['head']; " + (
            f"runpy.run_module('stages.{name}', run_name='__main__')"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

        assert done.returncode == 1
        assert done.stderr.startswith(f"{name}: params.yaml: cannot be read")
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
