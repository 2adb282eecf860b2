"""The location of the stores, and the lock that protects them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headstart.base.errors import StoreError
from headstart.base.files import check_regular
from headstart.base.machine import RuntimeParams, cache_folder

_LOCK_NAME = "lock"


def store_root(runtime: RuntimeParams) -> Path:
    """Return the folder of all stores: $HEADSTART_STORE, else `runtime.store`, else `.cache/embeddings` of the project.

    A relative path starts at the project's main checkout, also in DVC's temporary workspaces (see `cache_folder`).
    """
    chosen = os.environ.get("HEADSTART_STORE") or (".cache/embeddings" if runtime.store == "auto" else runtime.store)
    return cache_folder().parent / Path(chosen).expanduser()


@contextmanager
def in_use(root: Path) -> Iterator[None]:
    """Prevent others from deleting rows while this run reads and adds rows. Any number of runs may do so at once.

    The lock belongs to the file system and ends with the process. Between machines it works if the shared disk passes
    locks on (NFS 4, SMB). A read-only store needs no lock.

    Args:
        root: Folder of all stores. It is created if it is missing.

    Raises:
        OSError: The folder cannot be created, or the lock is no file.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / _LOCK_NAME
    with suppress(OSError):
        path.touch()
    if not path.exists():  # nobody can write here, so nobody can delete rows
        yield
        return
    check_regular(path)
    file = path.open()  # for reading, so that the lock file of another user works too
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"extract: waiting for {root}, which another process is cleaning up", flush=True)
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Lock the stores for this process alone.

    Args:
        root: Folder of all stores.

    Raises:
        StoreError: The folder does not exist, or a run is using it.
    """
    if not root.is_dir():
        raise StoreError(
            f"{root}: there is no store; expected the folder that runtime.store or HEADSTART_STORE names. Correct "
            "that setting. The next run of the stage extract makes the folder."
        )
    if (root / _LOCK_NAME).exists():
        check_regular(root / _LOCK_NAME)
    with (root / _LOCK_NAME).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"{root}: a run is using it; nothing was changed. Try again when it has ended.") from error
        yield
