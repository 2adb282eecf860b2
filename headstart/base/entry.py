"""The entry of every stage and command: an error that the user can mend becomes one clear message.

This module imports only the standard library, so that it can report a Python that lacks the project's packages.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from headstart.base.terminal import print_any_text

# Environment variable of processes that work for another one: the folder where they leave messages for it.
MESSAGES = "HEADSTART_MESSAGES"
# Modules that the wheel installs only with an extra, and the name of the extra.
_EXTRAS = {
    "fastapi": "serve",
    "python_multipart": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "pyarrow": "parquet",
}


def run_main(stage: str, main: Callable[[], None]) -> None:
    """Run the `main` of a stage or command. An error that the user can mend ends the process with a message.

    A process that works for another one (see `MESSAGES`) leaves the message to that one, which shows it once. After
    that, others that fail because it is gone end without a word.

    A bug still shows its stack trace. SIGTERM raises SystemExit in `main`, so that its temporary files are removed.
    Letters that the encoding of the output lacks are printed escaped.

    Args:
        stage: Name of the stage or command. Every message begins with it.
        main: Function that does the work. It imports what it needs itself, so that a missing package is reported here.

    Raises:
        SystemExit: With a message (exit code 1) for an error that the user can mend, with 130 for an interrupt, and
            with 143 for SIGTERM.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    print_any_text()
    try:
        from headstart.base.errors import HeadstartError

        main()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("headstart", "stages"):
            raise
        remedy = "it is not the project's Python. Run through `make`, or `source .venv/bin/activate` first."
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is not None:
            remedy = (
                f"run `pip install 'headstart[{extra}]'` if Headstart was installed from its wheel, or "
                "`source .venv/bin/activate` in the project's folder."
            )
        sys.exit(f"{stage}: {sys.executable} (Python {sys.version.split()[0]}) has no module {error.name!r}: {remedy}")
    except HeadstartError as error:
        _end(f"{stage}: ", str(error))
    except MemoryError:
        _end(f"{stage}: ", "out of memory. Lower runtime.batch, runtime.workers or runtime.memory.")
    except OSError as error:  # disk full, permission denied, ...: the system's own words name the file
        _end(f"{stage}: ", str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        if first_message(os.environ.get(MESSAGES)) is None:
            raise
        sys.exit(1)


def first_message(folder: str | None) -> str | None:
    """Return the message that a process left first in a folder; None if there is none."""
    paths = sorted(Path(folder).glob("*.txt")) if folder else []
    return paths[0].read_text(encoding="utf-8") if paths else None


def _end(prefix: str, message: str) -> NoReturn:
    folder = os.environ.get(MESSAGES)
    if folder is None or not Path(folder).is_dir():
        sys.exit(prefix + message)
    Path(folder, f"{time.time_ns()}-{os.getpid()}.txt").write_text(message, encoding="utf-8")
    sys.exit(1)
