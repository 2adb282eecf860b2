"""The source of this project: its files and their imports, which are read from the syntax tree without running it."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = ("headstart", "stages")


def tracked_files() -> list[str]:
    """Return the paths below ROOT of the existing files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def modules() -> list[Path]:
    """Return every module of the library and of the stages."""
    return sorted(file for package in OURS for file in (ROOT / package).rglob("*.py"))


def package_of(file: Path) -> str:
    """Return the package of one of our modules, such as `headstart/base`, or the path of a module without one."""
    path = file.relative_to(ROOT)
    return "/".join(path.parts[:2]) if len(path.parts) > 2 else path.as_posix()


def imported_modules(file: Path) -> Iterator[str]:
    """Give the dotted name of every module that a file imports, anywhere, or names as a string for `python -m`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _starts(node.value):
            yield node.value


def file_of(module: str) -> Path | None:
    """Return the file of one of our modules; None for other modules."""
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return file if module.startswith(tuple(f"{package}." for package in OURS)) and file.is_file() else None


def import_closure(start: Path) -> set[Path]:
    """Return `start` and every file of ours that it imports, directly or not."""
    closure, todo = set(), {start}
    while todo:
        file = todo.pop()
        closure.add(file)
        todo |= {found for name in imported_modules(file) if (found := file_of(name))} - closure
    return closure


def _starts(text: str) -> bool:
    """Return whether a string is the dotted name of one of our modules."""
    return text.startswith(OURS) and text.replace(".", "").isidentifier() and file_of(text) is not None
