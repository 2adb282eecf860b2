"""Where the store lies, and who may change it when."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headstart.base.errors import StoreError
from headstart.base.machine import RuntimeParams, cache_folder

_LOCK_NAME = "lock"


def store_root(runtime: RuntimeParams) -> Path:
    """Return the folder of all stores: $HEADSTART_STORE, else `runtime.store`, else `.cache/embeddings` of the project.

    A relative path starts at the project's root, also for an experiment in a temporary workspace: see `cache_folder`.
    """
    chosen = os.environ.get("HEADSTART_STORE") or (".cache/embeddings" if runtime.store == "auto" else runtime.store)
    return cache_folder().parent / Path(chosen).expanduser()


@contextmanager
def in_use(root: Path) -> Iterator[None]:
    """Keep others from deleting rows while this run reads and adds some. Any number of runs may, at once.

    A lock of the file system: it ends with its process, however that ends. Between machines it holds where the shared
    disk passes locks on (NFS 4, SMB). A store that cannot be written to needs none.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / _LOCK_NAME
    with suppress(OSError):
        path.touch()
    if not path.is_file():  # and nobody can make one: nobody can delete either
        yield
        return
    file = path.open()  # to read: another user's lock may be held too
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"extract: waits for {root}, which is being tidied up", flush=True)
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Have the store for oneself.

    Raises:
        StoreError: There is none, or a run is using it.
    """
    if not root.is_dir():
        raise StoreError(f"{root}: there is no store (runtime.store, HEADSTART_STORE)")
    with (root / _LOCK_NAME).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"{root}: a run is using it; nothing was changed. Try again when it has ended.") from error
        yield
