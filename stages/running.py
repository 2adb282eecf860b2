"""The run of a stage, which fails at its end if its params or its code were edited meanwhile."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from headstart.base.entry import run_main
from headstart.base.errors import DataError, HeadstartError
from headstart.base.files import code_digests

_PACKAGES = ("headstart", "stages")
_PARAMS = Path("params.yaml")
_EDITED = "edited while this stage ran. Its results may be those of the old content. Run: dvc repro"


def run_stage(stage: str, main: Callable[[], Callable[[], None] | None]) -> None:
    """Run the `main` of a stage as `run_main` does.

    DVC reads params and code once more when a stage has ended, and records what it finds then. Without this check it
    would record an edit that was made meanwhile, although the results are those of the old file, and never run the
    stage again.

    Args:
        stage: Name of the stage, which is that of its folder.
        main: Function that does the work, as for `run_main`. It may return a function to call when all is well.

    Raises:
        SystemExit: As `run_main`, and with a message if params or code of the stage were edited while it ran.
    """

    def main_with_check() -> None:
        params, code = _read(_PARAMS), code_digests(*_PACKAGES)
        clean_up = main()
        changed = [*_edited_params(stage, params), *edited_code(stage, code, code_digests(*_PACKAGES))]
        if changed:
            raise HeadstartError(f"{', '.join(changed)}: {_EDITED}")
        if clean_up is not None:
            clean_up()

    run_main(stage, main_with_check)


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Read a file that a user may edit at any time inside this block.

    Raises:
        DataError: At the end of the block, if the file was edited, made or removed meanwhile.
    """
    before = _read(path)
    yield
    if _read(path) != before:
        raise DataError(f"{path}: {_EDITED}")


def edited_code(stage: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the paths of modules that were edited, added or removed: those of the stage, and others that it imported.

    Modules of other stages do not count: all params are checked, but only those of the stage are used.

    Args:
        stage: Name of the stage.
        before: Digest of each module by path, as `code_digests` returns them.
        after: The same, later.
    """
    own = (f"stages/{stage}/", "stages/params.py", "stages/running.py")
    imported = {name.replace(".", "/") for name in sys.modules if name.startswith("headstart")}
    paths = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    return [path for path in paths if path.startswith(own) or path.removesuffix(".py") in imported]


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""  # if it must exist, its own reader says so


def _edited_params(stage: str, before: bytes) -> list[str]:
    """Return params.yaml with the names of the edited sections among those that the stage tracks."""
    after = _read(_PARAMS)
    if after == before:
        return []
    from headstart.base.params import parse_yaml  # needs the project's packages, whose lack `run_main` reports

    old, new = parse_yaml(_PARAMS, before), parse_yaml(_PARAMS, after)
    sections = importlib.import_module(f"stages.{stage}.params").Params.tracked({*old, *new})
    edited = sorted(name for name in sections if old.get(name) != new.get(name))
    return [f"{_PARAMS} ({', '.join(edited)})"] if edited else []
