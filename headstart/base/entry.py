"""The entry of every stage and command: a mistake of the user or of the set-up becomes one clear message.

Imports nothing outside the standard library, so that it can speak when the environment is the wrong one.
"""

import signal
import sys
from collections.abc import Callable

# Modules that the wheel's extras install, and the extra of each.
_EXTRAS = {
    "fastapi": "serve",
    "python_multipart": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "pyarrow": "parquet",
}


def run_main(stage: str, main: Callable[[], None]) -> None:
    """Run a stage's `main` and exit with 1 and a message for every error that the user can mend.

    A bug still shows its stack trace. `main` does its own imports, so that a wrong Python is caught here. A polite
    request to stop (SIGTERM) unwinds the stack, so that no temporary file stays behind.

    Args:
        stage: The stage's name, which begins every message.
        main: Does the stage's work.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
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
        sys.exit(f"{stage}: {error}")
    except MemoryError:
        sys.exit(f"{stage}: out of memory. Lower runtime.batch, runtime.workers or runtime.memory.")
    except OSError as error:  # disk full, permission denied, ...: the system's own words name the file
        sys.exit(f"{stage}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
