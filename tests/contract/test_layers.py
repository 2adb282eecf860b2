"""The rules of the house: arrows point one way, and nothing happens at import time."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source import ROOT, file_of, import_closure, imported_modules, modules, package_of

STAGES = ROOT / "stages"
MODULES = modules()
WITHOUT_TORCH = ("compare", "evaluate", "index", "projection", "report", "split")
HEAVY = {"timm", "torch", "torchvision"}


def imports_of(package: Path) -> set[str]:
    """Return the names of the library's other packages that the modules of one import."""
    files = [found for file in package.rglob("*.py") for name in imported_modules(file) if (found := file_of(name))]
    return {package_of(file).removeprefix("headstart/") for file in files} - {package.name}


def drawn_arrows() -> dict[str, set[str]]:
    """Return the arrows of the picture in the architecture page: for each package those that it imports."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    picture = page.split("```mermaid")[1].split("```")[0]
    arrows: dict[str, set[str]] = {}
    for line in picture.splitlines():
        if "-->" in line:
            left, right = ([name.strip() for name in side.split("&")] for side in line.split("-->"))
            for name in left:
                arrows.setdefault(name, set()).update(right)
    return arrows


def test_the_picture_of_the_packages_is_true() -> None:
    """Every arrow of the architecture page is an import, every import an arrow, and no arrows form a circle."""
    packages = [folder for folder in (ROOT / "headstart").iterdir() if (folder / "__init__.py").is_file()]
    arrows = drawn_arrows()

    assert {folder.name: imports_of(folder) for folder in packages if imports_of(folder)} == arrows
    left = {folder.name: set(arrows.get(folder.name, set())) for folder in packages}
    while left:
        leaves = {name for name, targets in left.items() if not targets & set(left)}
        assert leaves, f"a circle among {sorted(left)}"
        left = {name: targets for name, targets in left.items() if name not in leaves}


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_stages_import_the_library_and_themselves_only(file: Path) -> None:
    """No stage imports another, and the library imports no stage."""
    own = package_of(file)
    allowed = {own, "stages/params.py", "stages/running.py"} if own.startswith("stages/") else set()
    found = {package_of(found) for name in imported_modules(file) if (found := file_of(name))}

    assert {package for package in found if package.startswith("stages/")} <= allowed


def test_only_tests_import_tests() -> None:
    """Benchmarks run without the tests, and neither the library nor a stage imports tests or benchmarks."""
    benchmarks = sorted((ROOT / "benchmarks").glob("*.py"))
    found = {file: {name.split(".")[0] for name in imported_modules(file)} for file in [*MODULES, *benchmarks]}

    assert [file for file, names in found.items() if "tests" in names] == []
    assert [file for file in MODULES if "benchmarks" in found[file]] == []


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_stages_that_need_no_network_import_no_torch(name: str) -> None:
    """Counting files or scoring predictions must not cost the seconds that torch takes to import."""
    code = f"import sys, stages.{name}.__main__ as stage; sys.argv[1:] = ['head']\n"
    code += "try: stage.main()\nexcept Exception: pass\n"
    code += f"assert not {HEAVY} & set(sys.modules), 'torch'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", env={"PYTHONPATH": str(ROOT)})
    files = import_closure(STAGES / name / "__main__.py")
    heavy = {file.name for file in files if {module.split(".")[0] for module in imported_modules(file)} & HEAVY}

    assert done.returncode == 0
    assert heavy <= {"machine.py"}  # which asks torch for a GPU, inside functions, where a driver is there


def test_the_head_takes_torch_to_a_gpu_only() -> None:
    """Trying another head takes seconds: its modules import torch in two places, which only a GPU needs."""
    importing = {
        file.relative_to(ROOT).as_posix()
        for file in import_closure(STAGES / "head" / "__main__.py")
        if any(module.split(".")[0] in HEAVY for module in imported_modules(file))
    }
    code = "import sys, stages.head.train; assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert importing == {"headstart/base/machine.py", "headstart/linear/gpu_rows.py"}
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_happens_at_import_time(file: Path) -> None:
    """A module's top level defines and imports; it calls nothing but a few that only build values."""
    pure = {
        *("AfterValidator", "Annotated", "BeforeValidator", "ConfigDict", "Field", "Format", "Metric", "OutputFormat"),
        *("PackagedWeights", "Path", "Pooling", "PurePosixPath", "TypeVar", "dataclass", "field", "field_validator"),
        *("NormalDist", "NormalDist().inv_cdf", "Shift", "frozenset", "main", "model_validator", "run_main"),
        *("lru_cache", "run_stage"),
    }
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
    """A stage's entry reads params, calls its nouns and writes: at most about 50 lines."""
    lengths = {file.parent.name: len(file.read_text().splitlines()) for file in STAGES.glob("*/__main__.py")}

    assert {name: length for name, length in lengths.items() if length > 55} == {}


def test_modules_stay_short() -> None:
    """A module that grows past 300 lines wants splitting."""
    assert [file.name for file in MODULES if len(file.read_text().splitlines()) > 300] == []


def test_packages_hold_a_docstring_only() -> None:
    """An `__init__.py` has no code, so it is no dependency that dvc.yaml would have to name."""
    for file in (file for file in MODULES if file.name == "__init__.py"):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        assert [type(node) for node in body] == [ast.Expr], file


@pytest.mark.slow
def test_every_stage_starts_from_another_working_directory(tmp_path: Path) -> None:
    """Started where there is no params.yaml, each stage says what it wants, without a stack trace."""
    for name in sorted(main.parent.name for main in STAGES.glob("*/__main__.py")):
        code = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['head']; " + (
            f"runpy.run_module('stages.{name}', run_name='__main__')"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

        assert done.returncode == 1
        assert done.stderr.startswith(f"{name}: params.yaml: cannot be read")
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
